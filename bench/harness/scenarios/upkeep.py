"""What an operator does to a running server: upgrade its master, ask it how it is."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from contextlib import suppress
from dataclasses import replace

import psutil

from bench.harness import procs
from bench.harness.clients import Crowd, Plan, drive, errors_of
from bench.harness.context import Bench
from bench.harness.model import Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Outcome, Request, ask
from bench.harness.running import Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.faults import Story, failed, longest, stale, under_load, until
from bench.harness.scenarios.groups import RIVALS
from bench.harness.scenarios.prefork import ANY, Prefork
from bench.harness.servers import Reload, named
from bench.harness.target import free_port

__all__ = ["Scrape", "Upgrades"]

UPGRADES = 20
LIMIT = 80.0  # seconds for all of them
SCRAPES = 30


class Upgrades(Prefork):
    """A new master again and again, under load."""

    name = "upgrades"
    title = f"{UPGRADES} upgrades of the master under load"
    question = (
        f"What do users see when the server's own program is replaced {UPGRADES} times? 2 workers, 10 clients, "
        f"{LIMIT:g} s for all: `forkservectl upgrade`; Gunicorn's USR2, then TERM to the old master; uWSGI's HUP."
    )
    reading = "Uvicorn, granian and peregrine have no upgrade: they are stopped and started again."
    metrics = (
        Metric("failed", "failed requests", "", Better.LOWER),
        Metric("stale", "kept connections closed", "", Better.LOWER),
        Metric("done", "upgrades", "", Better.HIGHER),
        Metric("stall_s", "longest wait", "s", Better.LOWER, 2),
        Metric("pid", "master keeps its pid", "1 = yes", Better.HIGHER),
        Metric("workers", "workers keep theirs", "1 = yes", Better.HIGHER),
    )
    servers = short_servers = (
        *("forkserve-sync", "forkserve-preload", "gunicorn-gthread", "gunicorn-preload", "uwsgi-preload"),
    )
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Estimate: somewhat more than half of the limit."""
        return 35.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Upgrade one server again and again."""
        launch = self.launch(bench, cell.server, "plain:pid_{}", workers=2)
        with bench.ready(cell.server, launch, ANY) as running:
            values: dict[str, float] = {}
            masters = [running.pid]

            async def tell(story: Story) -> None:
                await asyncio.sleep(0.5)
                before, begun = {answer.body for answer in story.answers}, time.monotonic()
                while len(masters) <= UPGRADES and time.monotonic() < begun + LIMIT:
                    if not (master := await upgrade(running, masters[-1], story)):
                        break
                    masters.append(master)
                at = time.monotonic()
                await asyncio.sleep(0.5)
                after = {answer.body for answer in story.between(at, time.monotonic())}
                values["workers"] = float(after <= before)

            try:
                story = under_load(running, tell)
            finally:
                end(masters[-1], running)
            found = story.answers
            values |= {"failed": failed(found), "stale": stale(found), "stall_s": longest(found)}
            values |= {"done": len(masters) - 1, "pid": float(set(masters) == {running.pid})}
            errors = errors_of((kind, sum(a.outcome is kind for a in found)) for kind in Outcome)
            return Sample(values, errors, ""), running.command


async def upgrade(running: Running, master: int, story: Story) -> int:
    """Replace the master once, in the server's own way; return the pid of the new one, 0 when that failed."""
    if running.server.role == "ours":
        return 0 if await asyncio.to_thread(running.control, "upgrade") else master
    known = {answer.body for answer in story.answers}
    at = time.monotonic()
    if running.server.reload is Reload.HUP and running.server.distribution == "uWSGI":
        os.kill(master, signal.SIGHUP)
        came = await until(lambda: any(a.body not in known for a in story.between(at, time.monotonic())), 8.0)
        await asyncio.sleep(0.5)  # a HUP before the end of a reload is not heard
        return master if came else 0
    return await _second_master(master, known, story)


async def _second_master(master: int, known: set[bytes], story: Story) -> int:
    """Start Gunicorn's second master, and end the first when workers of the second answer."""
    old, found = procs.tree(master), [0]
    workers = {process.pid for process in old}

    def answers() -> bool:
        if not found[0]:
            # A master that was the second itself takes USR2 only when it has noticed the end of the first, within 1 s.
            os.kill(master, signal.SIGUSR2)
            found[0] = next((each.pid for each in children(master) if each.pid not in workers), 0)
            return False
        below = {str(pid).encode() for pid in procs.descendants(found[0])}
        return any(answer.body in below for answer in story.answers[-200:])

    if not await until(answers, 8.0):
        return 0
    os.kill(master, signal.SIGTERM)
    await until(lambda: not any(runs(each) for each in old), 8.0)
    return found[0]


def children(pid: int) -> list[psutil.Process]:
    """Return the children that have not only just been forked, but run a program with children."""
    with suppress(psutil.Error):
        return [each for each in psutil.Process(pid).children() if each.children()]
    return []


def runs(process: psutil.Process) -> bool:
    """Say whether it has not ended; one that waits to be reaped has."""
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def end(master: int, running: Running) -> None:
    """End a master that is not the process that was started, with its workers."""
    if master == running.pid:
        return
    family = procs.tree(master)
    for process in family:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(family, timeout=5)[1]:
        process.kill()
    psutil.wait_procs(family, timeout=5)


class Scrape(Prefork):
    """Health asked of a server that is busy."""

    name = "scrape"
    title = "Health checks while every worker is busy"
    question = (
        f"32 clients keep 2 workers busy with requests of 100 ms: how long do {SCRAPES} requests for health or "
        "metrics take, one after another?"
    )
    reading = (
        "These requests go to the server's own address for health or metrics (forkserve `--status-bind`, granian "
        "`--metrics`, uWSGI `--stats`, peregrine `--metrics-port`). Where there is none, they go to the application, "
        "as from a load balancer, and wait in the same queue as the other requests."
    )
    metrics = (
        Metric("worst_ms", "longest", "ms", Better.LOWER, 1),
        Metric("median_ms", "median", "ms", Better.LOWER, 1),
        Metric("answered", f"answered of {SCRAPES} within 2 s", "", Better.HIGHER),
        Metric("own", "own address", "1 = yes", Better.HIGHER),
    )
    servers = short_servers = RIVALS
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, ask."""
        return 5.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Ask one server."""
        launch = replace(self.launch(bench, cell.server, "plain:wait100_{}", workers=2), status=free_port())
        own = named(cell.server).distribution in ("forkserve", "granian", "uWSGI", "peregrine-server")
        with bench.ready(cell.server, launch, Request()) as running:
            crowd = Crowd(launch, Plan(Request(), 32, fresh=True))
            where = replace(launch, port=launch.status) if own else launch
            question = Request("/metrics" if own else "/", expect=None)
            times: list[float] = []

            def scrape() -> None:
                begun = time.monotonic()
                while len(times) < SCRAPES and time.monotonic() < begun + 20.0:
                    at = time.monotonic()
                    answer = ask(where, question, 2.0)
                    times.append(time.monotonic() - at if answer.status == 200 else 2.0)

            async def tell() -> None:
                asking = asyncio.create_task(crowd.run())
                await asyncio.sleep(1.0)
                await asyncio.to_thread(scrape)
                crowd.stop()
                await asking

            drive(tell())
            values = {"worst_ms": 1000 * max(times), "median_ms": 1000 * statistics.median(times), "own": float(own)}
            values["answered"] = float(sum(each < 2.0 for each in times))
            return Sample(values, {}, ""), running.command
