"""What forkserve set out to reach, as ratios within a run or as plain values, and whether this run shows it.

A goal that is missed is printed as missed; one whose scenario was not part of the run is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.harness.model import Measurement, Status
from bench.harness.stats import Stat, ratio_within_rounds, stat

__all__ = ["GOALS", "Goal", "check"]

HELLO, ASGI = "wsgi-hello", "asgi-hello"


@dataclass(frozen=True, slots=True)
class Goal:
    """`ours` divided by `theirs` (or by itself, without them) in one metric is to be at least, or at most, `bound`."""

    scenario: str
    ours: str
    bound: float
    theirs: str = ""
    metric: str = "rate"
    variant: str = ""
    at_most: bool = False

    def describe(self) -> str:
        """Write the goal in words."""
        where = f"{self.scenario}, {self.variant}" if self.variant else self.scenario
        against = f" / {self.theirs}" if self.theirs else ""
        return f"{where}: {self.metric} of {self.ours}{against} {'<=' if self.at_most else '>='} {self.bound:g}"

    def met(self, found: Stat) -> bool:
        """Judge by the median."""
        return found.median <= self.bound if self.at_most else found.median >= self.bound


def _framework(variant: str, ours: str, *theirs: str, scenario: str = "frameworks") -> tuple[Goal, ...]:
    return tuple(Goal(scenario, ours, 1.0, other, variant=variant) for other in theirs)


def _bodies(kind: str) -> tuple[Goal, ...]:
    wsgi = _framework(f"{kind} (WSGI)", "forkserve-sync", "gunicorn-gthread", "granian-wsgi", scenario="bodies")
    return wsgi + _framework(f"{kind} (ASGI)", "forkserve-asgi", "uvicorn", "granian-asgi", scenario="bodies")


GOALS = (
    Goal(HELLO, "forkserve-sync", 0.9, "nginx"),
    Goal(HELLO, "forkserve-sync", 0.9, "fastpysgi-wsgi"),
    Goal(HELLO, "forkserve-sync", 1.6, "granian-wsgi"),
    Goal(HELLO, "forkserve-sync", 15, "gunicorn-sync"),
    Goal(HELLO, "forkserve-threads", 3, "gunicorn-gthread"),
    Goal(HELLO, "forkserve-gevent", 5, "gunicorn-gevent"),
    Goal(ASGI, "forkserve-asgi", 1.5, "granian-asgi"),
    Goal(ASGI, "forkserve-asgi", 1.5, "fastpysgi-asgi"),
    Goal(ASGI, "forkserve-asgi", 2.2, "uvicorn"),
    *_framework("Flask JSON", "forkserve-sync", "gunicorn-gthread", "granian-wsgi"),
    *_framework("FastAPI JSON", "forkserve-asgi", "uvicorn", "granian-asgi"),
    *_bodies("echo 10 kB"),
    *_bodies("download 1 MiB"),
    *_bodies("browser headers"),
    Goal("waits", "forkserve-gevent", 1.0, "gunicorn-gevent", variant="100 ms, 512 connections (WSGI)"),
    Goal("waits", "forkserve-gevent", 1.0, "gunicorn-gevent", variant="100 ms, 2000 connections (WSGI)"),
    Goal("websocket", "forkserve-asgi", 1.0, "uvicorn"),
    Goal("overhead", "worker-forkserve", 0.97, "worker-bare"),
    Goal("deploy", "forkserve-sync", 0, metric="failed", at_most=True),
    Goal("deploy", "forkserve-sync", 0, metric="broken_failed", at_most=True),
    Goal("deploy", "forkserve-sync", 1, metric="broken_serves"),
    Goal("fairness", "forkserve-sync", 1, metric="gap", at_most=True),
    Goal("fairness", "forkserve-asgi", 1, metric="gap", at_most=True),
    Goal("slow-clients", "forkserve-threads", 100, metric="answered", variant="half a header"),
    Goal("slow-clients", "forkserve-sync", 100, metric="answered", variant="half a header"),
    Goal("idle-connections", "forkserve-sync", 6, metric="kib", at_most=True),
    Goal("idle", "forkserve-sync", 5, metric="switches", at_most=True),
)


def check(measurements: Iterable[Measurement]) -> list[tuple[Goal, Stat]]:
    """Return every goal that this run can judge, with what it found."""
    values: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for m in measurements:
        if m.status is Status.OK:
            for metric, value in m.values.items():
                values.setdefault((m.scenario, m.variant, m.server, metric), {})[m.round] = value
    found = []
    for goal in GOALS:
        ours = values.get((goal.scenario, goal.variant, goal.ours, goal.metric), {})
        theirs = values.get((goal.scenario, goal.variant, goal.theirs, goal.metric), {})
        result = ratio_within_rounds(ours, theirs) if goal.theirs else (stat(list(ours.values())) if ours else None)
        if result:
            found.append((goal, result))
    return found
