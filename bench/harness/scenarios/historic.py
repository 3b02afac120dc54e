"""The two comparisons of the Circus author, of 28 June and 3 July 2012, with what of them still runs."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from dataclasses import replace

import psutil

from bench.harness import procs, wrk
from bench.harness.clients import Plan
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.groups import CHAUSSETTES
from bench.harness.scenarios.prefork import ANY, Prefork

__all__ = ["Historic"]

USERS = (50, 100, 150, 200, 250, 300, 400)
SECONDS, QUICK = 6, 2  # of each load; one core answers about 140 a second, so that 400 users get theirs within three
PATIENCE = 120  # seconds an answer may take, as the -t 120 of his gunicorn line


def crowd() -> int:
    """50 workers as in 2012, or as many as a third of the free memory holds at 40 MiB each."""
    return max(4, min(50, psutil.virtual_memory().available // 3 // (40 * 2**20)))


def until_quiet(pid: int) -> None:
    """Wait until a server has done with the requests whose clients have left, 30 s at most."""
    pidfd = os.pidfd_open(pid)
    try:
        before = procs.usage(pid).cpu
        for _ in range(60):
            # The only event would be its end.
            if select.select([pidfd], [], [], 0.5)[0]:
                raise BenchError("ended between two loads")
            now = procs.usage(pid).cpu
            if now - before < 0.1:
                return
            before = now
    finally:
        os.close(pidfd)


class Historic(Prefork):
    """Ziadé's comparisons of June and July 2012: seven loads, one after the other, on servers of 50 workers."""

    name = "historic"
    title = "The Circus author's comparisons of 2012"
    question = (
        "50 workers of an application that waits and writes, under the load of 50 to 400 users: the recipes of 28 June "
        "(bench 1: 100 ms asleep, 10,000 tiny writes) and 3 July 2012 (bench 2: 75 to 100 ms asleep, a page from one "
        "of ten threads), with wrk in place of Funkload."
    )
    reading = (
        "The servers of 2012 were gunicorn-gevent and Circus with Chaussette's gevent, fastgevent, meinheld and (bench "
        "2) waitress; those that no longer run are listed with their errors. In 2012, on 24 cores, all of them reached "
        "14 requests/s in bench 1, and meinheld was called the winner. Chaussette's own meinheld loads the patched "
        "build of `forkserve-worker --install-backend meinheld`. The other servers are what one would choose today. A "
        "load lasts 6 s here instead of 120: too short to show how long the slowest of 400 users waits. Later answers "
        "do not count."
    )
    metrics = (
        Metric("rate", "all loads together", "/s"),
        *(Metric(f"rate_{users}", f"{users} users", "/s", Better.NEITHER) for users in USERS),
    )
    baseline = "gunicorn-gevent"
    servers = (
        *("gunicorn-gevent", *CHAUSSETTES, "circus-chaussette"),
        *("forkserve-sync", "forkserve-threads", "forkserve-gevent", "forkserve-meinheld", "forkserve-waitress"),
        *("gunicorn-gthread", "granian-wsgi", "uwsgi"),
    )
    in_short = False
    most_rounds = 1  # of seven loads
    applications = {"bench 1": "historic:first", "bench 2": "historic:second"}

    def variants(self, settings: Settings) -> Iterable[str]:
        """Both benches."""
        return self.applications

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Seven loads, and fifty workers that take a while to start."""
        return ((QUICK if settings.quick else SECONDS) + 2) * len(USERS) + 20

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Step through the users."""
        launch = bench.launch(self.applications[cell.variant], workers=crowd(), supervised=True, connections=USERS[-1])
        with bench.ready(cell.server, launch, ANY) as running:
            errors = bench.verify(launch, Plan(ANY, USERS[0], timeout=30), 2.0).errors
            values, requests, seconds = {}, 0, 0.0
            for users in USERS:
                until_quiet(running.pid)
                load = bench.wrk_load(launch.port, ANY, connections=users)
                load = replace(load, seconds=QUICK if bench.settings.quick else SECONDS, patience=PATIENCE)
                result = wrk.run(load, bench.pins.client_prefix())
                values[f"rate_{users}"] = result.rate
                requests, seconds = requests + result.requests, seconds + result.seconds
                for kind, count in result.errors.items():
                    errors[kind] = errors.get(kind, 0) + count
            if not requests:
                raise BenchError("no answer under load")
            silent = [str(users) for users in USERS if not values[f"rate_{users}"]]
            note = f"no answer in {result.seconds:.0f} s at {', '.join(silent)} users" if silent else ""
            return Sample(values | {"rate": requests / seconds}, errors, note), running.command
