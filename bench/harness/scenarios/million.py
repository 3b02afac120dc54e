"""Does a server grow while it serves? Its memory before and after a million requests."""

from __future__ import annotations

import time

from bench.harness import procs
from bench.harness.clients import Plan
from bench.harness.context import Bench
from bench.harness.model import Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Request
from bench.harness.scenarios.base import Scenario, Timed
from bench.harness.scenarios.groups import OURS
from bench.harness.servers import named

__all__ = ["Million"]

# Caches, arenas and the allocator's pools fill in the first of them.
WARM, COUNTED, QUICK = 200_000, 1_000_000, 20_000
# Seconds for the counted ones. The slowest of the field need longer; the table says how many they did.
PATIENCE = 60.0


class Million(Scenario):
    """Growth over a million requests of one worker."""

    name = "million"
    title = "A million requests"
    question = (
        "Does a worker grow? The memory of a server after 200,000 requests, and after a million more (or as many as it "
        "answers in a minute), over 64 keep-alive connections."
    )
    reading = (
        "Growth of less than one MiB comes from the allocator. A leak of one byte a request would show as one MB, and "
        "so would anything that is kept for each request."
    )
    metrics = (
        Metric("growth_mib", "growth", "MiB", Better.LOWER, 2),
        Metric("pss_mib", "PSS at the end", "MiB", Better.LOWER, 1),
        Metric("requests", "requests counted", "", Better.NEITHER),
    )
    baseline = "gunicorn-gthread"
    divides = False
    most_rounds = 1  # it is long enough to be sure
    servers = (*OURS, "gunicorn-gthread", "granian-wsgi", "granian-asgi", "uvicorn", "fastpysgi-wsgi")
    in_short = False

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """A rate of 40,000 is usual; the slow ones take all the time they get."""
        return 6.0 if settings.quick else 35.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Weigh, serve a million, weigh again."""
        launch = bench.launch(f"plain:hello_{named(cell.server).interface}")
        warm, counted = (QUICK, QUICK) if bench.settings.quick else (WARM, COUNTED)
        errors: dict[str, int] = {}
        with bench.ready(cell.server, launch, Request()) as running:
            errors.update(bench.verify(launch, Plan(Request(), 64)).errors)

            def serve(count: int, patience: float) -> int:
                done, deadline = 0, time.monotonic() + patience
                while done < count and time.monotonic() < deadline:
                    result = bench.load(launch, Request())
                    done += result.requests
                    for kind, number in result.errors.items():
                        errors[kind] = errors.get(kind, 0) + number
                return done

            serve(warm, PATIENCE / 4)
            before, _ = procs.memory(running.pid)
            done = serve(counted, PATIENCE)
            after, _ = procs.memory(running.pid)
            values = {"growth_mib": after - before, "pss_mib": after, "requests": float(done)}
            note = "" if done >= counted else f"only {done:,} requests in {PATIENCE:.0f} s"
            return Sample(values, errors, note), running.command
