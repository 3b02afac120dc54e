"""What nobody publishes: what a deploy, a broken deploy, a killed worker and a stop cost, each under load.

The clients are the harness's own: six that open a connection for each request and four that keep theirs. Every
request is accounted for; nothing is retried.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from bench.harness import procs
from bench.harness.clients import Crowd, Plan, drive, errors_of
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Answer, Outcome
from bench.harness.running import Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.groups import OPERATED
from bench.harness.scenarios.prefork import ANY, Prefork
from bench.harness.servers import Can, named

__all__ = ["Deploy", "FullQueue", "Kill", "Story"]

IMPORT_SECONDS = 1.0
PATIENCE = 9.0  # seconds that a broken deploy is watched
SOURCE = """
import threading
threading.Event().wait({seconds})  # as long as a real application takes to import
{broken}
from plain import lifespan
BODY = b"{version}"

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": BODY}})
"""


class Story:
    """Every answer in order of sending, and questions about a stretch of it."""

    def __init__(self) -> None:
        """Start with no answers."""
        self.answers: list[Answer] = []

    def add(self, answer: Answer) -> None:
        """Take one answer; the clients call this."""
        self.answers.append(answer)

    def between(self, start: float, end: float) -> list[Answer]:
        """Return the answers to requests sent in that stretch."""
        return [answer for answer in self.answers if start <= answer.at < end]

    def first(self, body: bytes, since: float) -> float | None:
        """Return when the first answer with this body came in, in seconds after `since`."""
        times = [a.at + a.took - since for a in self.answers if a.body == body and a.at + a.took >= since]
        return min(times, default=None)

    def last(self, body: bytes, since: float) -> float:
        """Return when the last answer with this body came in, in seconds after `since`; 0 for none."""
        return max((a.at + a.took - since for a in self.answers if a.body == body and a.at >= since), default=0.0)


def failed(answers: list[Answer]) -> int:
    """Count the failures; a kept connection that was closed between two requests is counted apart."""
    return sum(answer.outcome not in (Outcome.OK, Outcome.STALE) for answer in answers)


def stale(answers: list[Answer]) -> int:
    """Count kept connections that were closed under a request."""
    return sum(answer.outcome is Outcome.STALE for answer in answers)


def longest(answers: list[Answer]) -> float:
    """Return the longest time that a client waited, whatever came of it."""
    return max((answer.took for answer in answers), default=0.0)


def under_load(running: Running, tell: Callable[[Story], Awaitable[None]]) -> Story:
    """Run the ten clients while `tell` does what it does to the server."""
    story = Story()
    fresh = Crowd(running.launch, Plan(ANY, 6, fresh=True, pause=0.005), story.add)
    kept = Crowd(running.launch, Plan(ANY, 4, pause=0.005), story.add)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fresh.run())
            group.create_task(kept.run())
            try:
                await tell(story)
            finally:
                fresh.stop()
                kept.stop()

    drive(main())
    return story


async def until(condition: Callable[[], bool], timeout: float) -> bool:
    """Look every 20 ms; return whether it came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


class Deploy(Prefork):
    """New code under load, then broken code, then a mended one."""

    name = "deploy"
    title = "A deploy under load"
    question = (
        "What do users see when new code is deployed, and when that code is broken? 2 workers, 10 clients, an "
        "application that takes 1 s to import, reloaded in the server's own way (restarted if it has none)."
    )
    reading = (
        "`longest wait` is the longest time that a client waited. Old code may answer on keep-alive connections after "
        "new code answers on new ones; `old code answers until` says for how long. The number of requests that fail in "
        "a broken deploy depends on how fast clients retry: read it as none, some or all. A server that has exited "
        "cannot load the fixed code; it must be started again."
    )
    metrics = (
        Metric("failed", "failed requests", "", Better.LOWER),
        Metric("stale", "kept connections closed", "", Better.LOWER),
        Metric("stall_s", "longest wait", "s", Better.LOWER, 2),
        Metric("first_s", "new code answers after", "s", Better.LOWER, 2),
        Metric("settled_s", "old code answers until", "s", Better.LOWER, 2),
        Metric("broken_failed", "failed in a broken deploy", "", Better.LOWER),
        Metric("broken_serves", "serves on after it", "1 = yes", Better.HIGHER),
        Metric("mended", "takes the mended code", "1 = yes", Better.HIGHER),
    )
    servers = (*OPERATED, "waitress")
    short_servers = (
        "forkserve-sync",
        "gunicorn-gthread",
        "uwsgi",
        "granian-wsgi",
        "uvicorn",
        "circus-chaussette",
    )
    in_quick = True

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, good deploy, broken deploy, mended deploy."""
        return 15.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Deploy three times to one server."""
        workers = 2 if Can.WORKERS in named(cell.server).can else 1
        launch = self.launch(bench, cell.server, "deployed:{}", workers=workers)
        self._write(launch.folder, "one")
        # The file changes within a second: compiled code of the old one must not be taken for the new one's.
        with bench.ready(cell.server, launch, ANY, PYTHONDONTWRITEBYTECODE="1") as running:
            values: dict[str, float] = {}
            good: list[Answer] = []

            async def tell(story: Story) -> None:
                await asyncio.sleep(0.5)
                start = time.monotonic() - 0.2
                values.update(await self._good(running, story))
                good.extend(story.between(start, time.monotonic()))
                values.update({"failed": failed(good), "stale": stale(good), "stall_s": longest(good)})
                values.update(await self._broken(running, story))
                values["mended"] = float(await self._mend(running, story))

            under_load(running, tell)
            note = "" if running.alive else f"ended with status {running.process.returncode} in the broken deploy"
            errors = errors_of((kind, sum(a.outcome is kind for a in good)) for kind in Outcome)
            return Sample(values, errors, note), running.command

    @staticmethod
    def _write(folder: Path, version: str, *, broken: bool = False) -> None:
        text = 'raise RuntimeError("a broken deploy")' if broken else ""
        source = SOURCE.format(seconds=IMPORT_SECONDS, broken=text, version=version)
        new = folder / "deployed.new"
        new.write_text(source)
        new.replace(folder / "deployed.py")

    async def _good(self, running: Running, story: Story) -> dict[str, float]:
        self._write(running.launch.folder, "two")
        at = time.monotonic()
        # A restart waits for the old process: not in the thread that drives the clients.
        reload = asyncio.create_task(asyncio.to_thread(running.reload))
        await until(lambda: story.first(b"two", at) is not None, 15.0)
        await until(lambda: time.monotonic() - at - story.last(b"one", at) > 1.0, 8.0)
        await reload
        first = story.first(b"two", at)
        return {"settled_s": story.last(b"one", at)} | ({} if first is None else {"first_s": first})

    async def _broken(self, running: Running, story: Story) -> dict[str, float]:
        self._write(running.launch.folder, "broken", broken=True)
        at = time.monotonic()
        reload = asyncio.create_task(asyncio.to_thread(running.reload))
        # Granian gives up after 8 s: a shorter look would call it a survivor.
        await until(lambda: reload.done() and not running.alive, PATIENCE)
        await reload
        await asyncio.sleep(0.5)
        end = time.monotonic()
        answers = story.between(at, end)
        latest = [a for a in answers if a.at + a.took > end - 0.4]
        serves = any(a.outcome is Outcome.OK for a in latest) and not failed(latest)
        return {"broken_failed": failed(answers), "broken_serves": float(serves)}

    async def _mend(self, running: Running, story: Story) -> bool:
        """Bring in good code; a server that ended cannot be told any more."""
        if not running.alive:
            return False
        self._write(running.launch.folder, "three")
        at = time.monotonic()
        reload = asyncio.create_task(asyncio.to_thread(running.reload))
        seen = await until(lambda: story.first(b"three", at) is not None, 5.0)
        await reload
        return seen


class Kill(Prefork):
    """SIGKILL to a worker under load."""

    name = "kill"
    title = "A worker is killed"
    question = (
        "How many requests are lost when a worker is killed (SIGKILL, as the kernel does when memory runs out), and "
        "when is it replaced?"
    )
    reading = (
        "Every server loses the requests that the killed worker was serving; servers differ in how many it had "
        "accepted, and in when a new worker is ready. A server that exits with its worker loses everything from then "
        "on."
    )
    metrics = (
        Metric("lost", "lost requests", "", Better.LOWER),
        Metric("stale", "kept connections closed", "", Better.LOWER),
        Metric("replaced_s", "replaced after", "s", Better.LOWER, 2),
        Metric("stall_s", "longest wait", "s", Better.LOWER, 2),
    )
    servers = OPERATED

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, kill, watch."""
        return 4.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Kill the worker that answered last."""
        launch = self.launch(bench, cell.server, "plain:pid_{}", workers=2)
        with bench.ready(cell.server, launch, ANY) as running:
            values: dict[str, float] = {}

            async def tell(story: Story) -> None:
                await asyncio.sleep(0.7)
                values.update(await self._kill(running, story))

            story = under_load(running, tell)
            note = "" if "replaced_s" in values else "not replaced in the time watched"
            if not running.alive:
                note = f"the server ended with status {running.process.returncode}"
            errors = errors_of((kind, sum(a.outcome is kind for a in story.answers)) for kind in Outcome)
            return Sample(values, errors, note), running.command

    async def _kill(self, running: Running, story: Story) -> dict[str, float]:
        known = {answer.body for answer in story.answers}
        pids = [int(body) for body in known if body.isdigit() and int(body) in running.workers()]
        if not pids:
            raise BenchError("no worker process below the server answered")
        at = time.monotonic()
        os.kill(pids[0], signal.SIGKILL)

        def newcomer() -> list[Answer]:
            return [a for a in story.answers if a.outcome is Outcome.OK and a.body not in known]

        await until(lambda: bool(newcomer()), 4.0)
        await asyncio.sleep(0.5)
        answers = story.between(at - 0.1, time.monotonic())
        values: dict[str, float] = {"lost": failed(answers), "stale": stale(answers), "stall_s": longest(answers)}
        arrived = [a.at + a.took - at for a in newcomer()]
        return values | ({"replaced_s": min(arrived)} if arrived else {})


QUEUED = 200
ENDING = {"TERM": signal.SIGTERM, "QUIT": signal.SIGQUIT}


class FullQueue(Prefork):
    """TERM or QUIT while clients wait in the kernel's queue."""

    name = "full-queue"
    title = "The end with a full queue"
    question = (
        f"{QUEUED} clients have connected and sent a request, and none is accepted yet: how many are answered when the "
        "server is told to end?"
    )
    reading = (
        "The server is stopped (SIGSTOP) while the clients connect, told to end (SIGTERM or SIGQUIT to its first "
        "process) and continued (SIGCONT). The kernel resets what the server leaves in the queue. QUIT means a "
        "graceful stop to some servers and an immediate one to others, and some do not handle it. Two workers; a "
        "connection that does not fit into the queue counts as unanswered."
    )
    metrics = (
        Metric("answered", f"answered of {QUEUED}", "", Better.HIGHER),
        Metric("ended_s", "ended after", "s", Better.LOWER, 2),
    )
    servers = OPERATED
    short_servers = ("forkserve-sync", "gunicorn-gthread", "uvicorn")
    most_rounds = 1  # what a server leaves behind it leaves each time

    def variants(self, settings: Settings) -> Iterable[str]:
        """Both signals; TERM alone in the short set."""
        return ENDING if settings.full or self.name in settings.scenarios else ("TERM",)

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, connect, end."""
        return 3.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Stop the server with a full queue."""
        launch = self.launch(bench, cell.server, "plain:pid_{}", workers=2)
        with bench.ready(cell.server, launch, ANY) as running:
            crowd = Crowd(launch, Plan(ANY, QUEUED, fresh=True, timeout=PATIENCE))
            values: dict[str, float] = {}

            async def tell() -> None:
                asking = asyncio.create_task(crowd.run())
                processes = procs.tree(running.pid)
                for process in processes:
                    process.suspend()
                await asyncio.sleep(0.5)
                crowd.stop()  # each asks this once
                at = time.monotonic()
                os.kill(running.pid, ENDING[cell.variant])
                for process in processes:
                    process.resume()
                await asking
                if await until(lambda: not running.alive, PATIENCE):
                    values["ended_s"] = time.monotonic() - at

            drive(tell())
            values["answered"] = float(crowd.outcomes[Outcome.OK])
            note = "" if "ended_s" in values else f"still there after {PATIENCE:g} s"
            return Sample(values, errors_of(crowd.outcomes.items()), note), running.command
