"""A storm of reloads, and SIGKILL to the first process of a server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil

from bench.harness import procs
from bench.harness.clients import errors_of
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Outcome, Request, ask
from bench.harness.running import Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.faults import SOURCE, Story, failed, longest, stale, under_load, until
from bench.harness.scenarios.groups import OPERATED
from bench.harness.scenarios.prefork import ANY, Prefork

__all__ = ["MasterKill", "Reloads"]

RELOADS = 50
LIMIT = 60.0  # seconds for all of them
BLIND = 0.5  # seconds between two reloads of a server whose reloads bring in no new code
SEEN = 5.0  # seconds in which new code must answer
LINGER = 3.0  # seconds after the end of a master in which its workers may end
SHORT = ("forkserve-sync", "forkserve-preload", "gunicorn-gthread", "gunicorn-preload", "uvicorn", "uwsgi")


class Reloads(Prefork):
    """Reload after reload, each as soon as the code of the one before has answered."""

    name = "reloads"
    title = f"{RELOADS} reloads under load"
    question = (
        f"What do users see of {RELOADS} deploys in a row? 2 workers, 10 clients, an application that takes 0.1 s to "
        f"import; each reload follows as soon as the new code has answered once, {LIMIT:g} s for all."
    )
    reading = (
        "`new code seen` counts the reloads whose code answered within 5 s; a server that has preloaded the "
        "application may reload only its workers. `more processes` counts those that exist 3 s after the last reload "
        "and did not before the first."
    )
    metrics = (
        Metric("failed", "failed requests", "", Better.LOWER),
        Metric("stale", "kept connections closed", "", Better.LOWER),
        Metric("sent", "reloads", "", Better.HIGHER),
        Metric("seen", "new code seen", "", Better.HIGHER),
        Metric("stall_s", "longest wait", "s", Better.LOWER, 2),
        Metric("more", "more processes", "", Better.LOWER),
    )
    servers = OPERATED
    short_servers = SHORT
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Estimate: half of the limit, for most."""
        return LIMIT / 2

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Reload one server again and again."""
        launch = self.launch(bench, cell.server, "deployed:{}", workers=2)
        write(launch.folder, 0)
        # Several versions come within a second: compiled code of one must not be taken for the next one's.
        with bench.ready(cell.server, launch, ANY, PYTHONDONTWRITEBYTECODE="1") as running:
            values: dict[str, float] = {}

            async def tell(story: Story) -> None:
                await asyncio.sleep(0.5)
                before = len(procs.tree(running.pid))
                values.update(await storm(running, story))
                if running.alive:
                    await until(lambda: len(procs.tree(running.pid)) <= before, LINGER)
                    values["more"] = float(max(len(procs.tree(running.pid)) - before, 0))

            story = under_load(running, tell)
            found = story.answers
            values |= {"failed": failed(found), "stale": stale(found), "stall_s": longest(found)}
            note = "" if running.alive else f"ended with status {running.process.returncode}"
            errors = errors_of((kind, sum(a.outcome is kind for a in found)) for kind in Outcome)
            return Sample(values, errors, note), running.command


async def storm(running: Running, story: Story) -> dict[str, float]:
    """Reload until all is done, the server has ended or time is up; return how many, and how many were seen."""
    begun, sent, seen, blind = time.monotonic(), 0, 0, False
    while sent < RELOADS and running.alive and time.monotonic() < begun + LIMIT:
        sent += 1
        write(running.launch.folder, sent)
        at, body = time.monotonic(), version(sent)
        await asyncio.to_thread(running.reload)
        if blind:
            await asyncio.sleep(BLIND)
            continue
        came = await until(lambda at=at, body=body: story.first(body, at) is not None, SEEN)  # type: ignore[misc]
        seen += came
        blind = sent == 1 and not came
    return {"sent": sent, "seen": seen}


def version(number: int) -> bytes:
    """Return the body of the answers of that version."""
    return f"version {number}".encode()


def write(folder: Path, number: int) -> None:
    """Replace the application by that version."""
    new = folder / "deployed.new"
    new.write_text(SOURCE.format(seconds=0.1, broken="", version=version(number).decode()))
    new.replace(folder / "deployed.py")


class MasterKill(Prefork):
    """SIGKILL to the first process, and what a supervisor then finds that starts the server again."""

    name = "master-kill"
    title = "The master is killed"
    question = (
        "What is left when the first process of a server is killed (SIGKILL), and can the same command start it "
        "again? 2 workers, no load."
    )
    reading = (
        "Workers that are left serve on without a master: nothing reloads or replaces them. They keep the port from "
        "the next master, or share it with its workers and answer with old code. "
        f"They have {LINGER:g} s to end. A server of one process leaves no workers."
    )
    metrics = (
        Metric("left", f"processes left after {LINGER:g} s", "", Better.LOWER),
        Metric("answers", "they still answer", "1 = yes", Better.LOWER),
        Metric("again", "starts again at once", "1 = yes", Better.HIGHER),
        Metric("ended_s", "last worker ended after", "s", Better.LOWER, 2),
    )
    servers = OPERATED
    short_servers = SHORT
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, kill, watch, start."""
        return 8.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Kill the master once."""
        launch = self.launch(bench, cell.server, "plain:pid_{}", workers=2)
        values: dict[str, float] = {}
        with bench.ready(cell.server, launch, ANY) as running:
            family = procs.tree(running.pid)
            at = time.monotonic()
            os.kill(running.pid, signal.SIGKILL)
            running.process.wait()
            left = asyncio.run(ends(family, at, values))
            values["left"] = float(len(left))
            values["answers"] = float(bool(left) and ask(launch, Request(expect=None), timeout=2.0).status == 200)
            values["again"] = float(starts(running))
            for process in living(left):
                process.kill()
            return Sample(values, {}, ""), running.command


async def ends(family: list[psutil.Process], at: float, values: dict[str, float]) -> list[psutil.Process]:
    """Wait for the end of all; note when the last has ended, or return those that have not."""
    if await until(lambda: not living(family), LINGER):
        values["ended_s"] = time.monotonic() - at
    return living(family)


def living(family: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that run; one that waits to be reaped does not."""
    return [each for each in family if _runs(each)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def starts(running: Running) -> bool:
    """Start it again; tell whether it answers within some seconds, and does not end although others answer for it."""
    running.spawn()
    try:
        running.wait_ready(ANY, timeout=SEEN)
        running.settle(SEEN)
    except BenchError:
        return False
    return running.alive
