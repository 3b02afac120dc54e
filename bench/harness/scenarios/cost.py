"""What a server costs when it is not being raced: memory, start-up, idling."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable

from bench.harness import procs
from bench.harness.clients import Crowd, Plan, errors_of, run_for
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Answer, Request
from bench.harness.running import Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.groups import OPERATED, PREFORK
from bench.harness.scenarios.prefork import ANY, Prefork
from bench.harness.servers import Can, named

__all__ = ["Idle", "Memory", "StartUp"]


class Memory(Prefork):
    """PSS of four workers of a realistic application."""

    name = "memory"
    title = "Memory of four workers"
    question = (
        "How much memory do four workers of a real application (Django, FastAPI, SQLAlchemy, pandas) need once their "
        "caches are filled?"
    )
    reading = (
        "PSS divides each shared page among the processes that share it. A server that imports the application once "
        "and then forks starts small and grows as pages are written, so the figure after the load is the one to "
        "compare. refork: workers are forked again from one that has served 100 requests."
    )
    metrics = (
        Metric("pss_mib", "PSS, all processes", "MiB", Better.LOWER),
        Metric("start_mib", "PSS at the first answer", "MiB", Better.LOWER),
        Metric("first_s", "first answer after", "s", Better.LOWER, 1),
        Metric("workers", "workers that answered", "", Better.NEITHER),
    )
    servers = (*OPERATED, "forkserve-refork")
    short_servers = ("forkserve-sync", "forkserve-preload", "gunicorn-gthread", "gunicorn-preload", "uvicorn")
    most_rounds = 1  # sizes hardly vary

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Four imports of everything, then the requests."""
        return 10.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Fill the caches of all workers and weigh the tree."""
        launch = self.launch(bench, cell.server, "realistic:{}", workers=4)
        with bench.started(cell.server, launch) as running:
            first, _ = running.wait_ready(ANY, timeout=90)
            start_mib, _ = procs.memory(running.pid)
            pids: set[bytes] = set()

            def watch(answer: Answer) -> None:
                pids.add(answer.body)
                if sum(crowd.outcomes.values()) >= 600:
                    crowd.stop()

            crowd = Crowd(launch, Plan(ANY, 12, fresh=True, timeout=30), watch)
            run_for(20.0, crowd)
            running.settle()  # one that makes workers from a warmed one is still at it
            pss, _ = procs.memory(running.pid)
            values = {"pss_mib": pss, "start_mib": start_mib, "first_s": first, "workers": float(len(pids))}
            return Sample(values, errors_of(crowd.outcomes.items())), running.command


class StartUp(Prefork):
    """From exec to the first answer."""

    name = "start-up"
    title = "Start-up"
    question = "How long does it take from the command to the first answer, with nothing to import but the server?"
    metrics = (Metric("ready_ms", "first answer after", "ms", Better.LOWER),)
    servers = ("nginx", *PREFORK, "waitress")
    short_servers = (*Prefork.short_servers, "circus-chaussette")

    def variants(self, settings: Settings) -> Iterable[str]:
        """One worker; four as well in a full run."""
        return ("1 worker", "4 workers") if settings.full else ("1 worker",)

    def takes_part(self, server: str, variant: str) -> bool:
        """Four workers need a server that has them."""
        return variant == "1 worker" or Can.WORKERS in named(server).can or server == "nginx"

    def rounds(self, settings: Settings) -> int:
        """One is enough for the short set: starts hardly vary."""
        return settings.rounds if settings.full else 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start and stop."""
        return 1.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Time one start."""
        launch = bench.launch(f"plain:hello_{named(cell.server).interface}", workers=int(cell.variant[0]))
        with bench.started(cell.server, launch) as running:
            seconds, answer = running.wait_ready(Request())
            return Sample({"ready_ms": seconds * 1e3}, errors_of([(answer.outcome, 1)])), running.command


def watch_idle(running: Running, seconds: float) -> tuple[float, float]:
    """Return CPU milliseconds and context switches per second of a server that nobody asks.

    Raises BenchError when it ends.
    """
    pidfd = os.pidfd_open(running.pid)
    try:
        for number, timeout in enumerate((1.0, seconds)):
            if number:
                before, start = procs.usage(running.pid), time.monotonic()
            # The only event would be its end; the measurement is the time until then.
            if select.select([pidfd], [], [], timeout)[0]:
                raise BenchError(f"ended while idle: {running.last_words()}")
    finally:
        os.close(pidfd)
    after, took = procs.usage(running.pid), time.monotonic() - start
    return (after.cpu - before.cpu) / took * 1e3, (after.switches - before.switches) / took


WATCHED = {False: 3.0, True: 6.0}  # seconds, in the short set and in a full run


class Idle(Prefork):
    """What a server does when nothing is to be done."""

    name = "idle"
    title = "Idle"
    question = (
        "What do four workers and their master cost while there are no requests? Laptops, batteries and shared hosts "
        "pay for it."
    )
    reading = "CPU time has a resolution of 10 ms; 0 means less than that over the whole measurement."
    metrics = (
        Metric("switches", "wake-ups (context switches)", "/s", Better.LOWER, 1),
        Metric("cpu_ms", "CPU", "ms/s", Better.LOWER, 2),
        Metric("pss_mib", "PSS, all processes", "MiB", Better.LOWER, 1),
        Metric("worker_mib", "RSS of a worker", "MiB", Better.LOWER, 1),
    )
    servers = ("nginx", *PREFORK)
    short_servers = ("forkserve-sync", "forkserve-asgi", "gunicorn-sync", "gunicorn-gthread", "granian-wsgi", "uvicorn")
    most_rounds = 1  # nothing happens

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, settle, watch."""
        return 2.5 + WATCHED[settings.full]

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Start four workers, ask each for something, leave them alone."""
        application = "plain:pid_{}" if named(cell.server).interface in ("wsgi", "asgi") else ""
        launch = self.launch(bench, cell.server, application, workers=4)
        with bench.ready(cell.server, launch, ANY) as running:
            bench.verify(launch, Plan(ANY, 16, fresh=True), 0.3)
            cpu, switches = watch_idle(running, WATCHED[bench.settings.full])
            pss, _ = procs.memory(running.pid)
            values = {"switches": switches, "cpu_ms": cpu, "pss_mib": pss}
            sizes = [process.memory_info().rss / 2**20 for process in procs.tree(running.pid)[1:]]
            # Beside workers and master there may be small processes that keep logs: the biggest one serves.
            return Sample(values | ({"worker_mib": max(sizes)} if sizes else {})), running.command
