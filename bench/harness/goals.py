"""What forkserve set out to reach, and whether this run shows it.

Every goal stands in the report: one that is missed as missed, one whose rows this run has not measured as not measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.harness.model import Cell, Measurement, Status
from bench.harness.scenarios.groups import OURS
from bench.harness.stats import Stat, difference_within_rounds, ratio_within_rounds, stat

__all__ = ["GOALS", "Finding", "Goal", "judge"]

OURS_WSGI, OURS_ASGI = "forkserve-sync", "forkserve-asgi"
GUNICORNS = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent")
# A load generator that uses more of its core than this may have been the limit instead of the server.
CLIENT_AT_LIMIT = 0.97


@dataclass(frozen=True, slots=True)
class Goal:
    """`ours` divided by each of `theirs` (less it, with `difference`; by itself, without them) against `bound`."""

    scenario: str
    ours: str
    bound: float
    theirs: tuple[str, ...] = ()
    metric: str = "rate"
    variant: str = ""
    at_most: bool = False
    difference: bool = False

    def describe(self) -> str:
        """Write in words what is measured."""
        where = f"{self.scenario}, {self.variant}" if self.variant else self.scenario
        sign = "-" if self.difference else "/"
        several = "the best of " if len(self.theirs) > 1 else ""
        against = f" {sign} {several}{', '.join(self.theirs)}" if self.theirs else ""
        return f"{where}: {self.metric} of {self.ours}{against}"

    def asked(self) -> str:
        """Write the bound."""
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"

    def met(self, found: Stat) -> bool:
        """Judge by the median."""
        return found.median <= self.bound if self.at_most else found.median >= self.bound


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run says of a goal.

    `found` is the ratio, difference or value (None: not measured), `rival` the one of several that came closest,
    `by_cpu` the ratio of the rival's CPU time per request to ours (of rates only). `remarks` is what a reader must know
    besides.
    """

    goal: Goal
    found: Stat | None = None
    rival: str = ""
    by_cpu: Stat | None = None
    remarks: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """Return met, MISSED or not measured, with the remarks."""
        met = self.found is not None and self.goal.met(self.found)
        word = "not measured" if self.found is None else "met" if met else "MISSED"
        return "; ".join((word, *self.remarks))


def _ahead(scenario: str, variant: str, ours: str, *theirs: str) -> Goal:
    return Goal(scenario, ours, 1.0, theirs, variant=variant)


def _bodies(kind: str) -> tuple[Goal, ...]:
    return (
        _ahead("bodies", f"{kind} (WSGI)", OURS_WSGI, *GUNICORNS, "granian-wsgi"),
        _ahead("bodies", f"{kind} (ASGI)", OURS_ASGI, "gunicorn-asgi", "uvicorn", "granian-asgi"),
    )


def _varied(kind: str) -> tuple[Goal, ...]:
    return (
        _ahead("varied", f"{kind} (WSGI)", OURS_WSGI, *GUNICORNS, "granian-wsgi"),
        _ahead("varied", f"{kind} (ASGI)", OURS_ASGI, "uvicorn", "granian-asgi"),
    )


SPEED = (
    Goal("wsgi-hello", OURS_WSGI, 0.9, ("nginx",)),
    Goal("wsgi-hello", OURS_WSGI, 0.9, ("fastpysgi-wsgi",)),
    Goal("wsgi-hello", OURS_WSGI, 1.6, ("granian-wsgi",)),
    Goal("wsgi-hello", OURS_WSGI, 15, ("gunicorn-sync",)),
    Goal("wsgi-hello", "forkserve-threads", 3, ("gunicorn-gthread",)),
    Goal("wsgi-hello", "forkserve-gevent", 5, ("gunicorn-gevent",)),
    Goal("asgi-hello", OURS_ASGI, 1.5, ("granian-asgi", "fastpysgi-asgi")),
    Goal("asgi-hello", OURS_ASGI, 2.2, ("uvicorn",)),
    *_varied("short head"),
    *_varied("browser's head"),
    _ahead("frameworks", "Flask JSON", OURS_WSGI, *GUNICORNS, "granian-wsgi"),
    _ahead("frameworks", "Flask page", OURS_WSGI, *GUNICORNS, "granian-wsgi"),
    _ahead("frameworks", "FastAPI JSON", OURS_ASGI, "uvicorn", "granian-asgi"),
    *_bodies("echo 10 kB"),
    *_bodies("download 1 MiB"),
    *_bodies("browser headers"),
    _ahead("waits", "100 ms, 1000 connections (WSGI)", "forkserve-gevent", "gunicorn-gevent"),
    Goal("websocket", OURS_ASGI, 1.0, ("uvicorn",)),
    # 1.0 within noise: what two runs of one and the same server differ by.
    Goal("overhead", "worker-forkserve", 0.97, ("worker-bare",)),
    Goal("access-log", "forkserve-sync+log", 0.9, ("forkserve-sync",), variant="WSGI"),
    Goal("access-log", "forkserve-asgi+log", 0.9, ("forkserve-asgi",), variant="ASGI"),
)

COST = (
    Goal("memory", "forkserve-preload", 280, metric="pss_mib", at_most=True),
    Goal("memory", "forkserve-refork", 170, metric="pss_mib", at_most=True),
    Goal("idle", OURS_WSGI, 5, ("gunicorn-sync",), metric="worker_mib", at_most=True, difference=True),
    Goal("idle", OURS_WSGI, 5, metric="switches", at_most=True),
    *(
        Goal(scenario, server, bound, metric=metric, at_most=True)
        for scenario, metric, bound in (("idle-connections", "kb", 6.0), ("million", "growth_mib", 1.0))
        for server in (OURS_WSGI, "forkserve-threads", "forkserve-gevent", OURS_ASGI)
    ),
)

BEHAVIOUR = (
    Goal("deploy", OURS_WSGI, 0, metric="failed", at_most=True),
    Goal("deploy", OURS_WSGI, 0, metric="broken_failed", at_most=True),
    Goal("deploy", OURS_WSGI, 1, metric="broken_serves"),
    Goal("deploy", "forkserve-preload", 0, metric="failed", at_most=True),
    Goal("deploy", "forkserve-preload", 0, metric="broken_failed", at_most=True),
    *(Goal("full-queue", server, 200, metric="answered", variant=each) for each in ("TERM", "QUIT") for server in OURS),
    Goal("fairness", OURS_WSGI, 1, metric="gap", at_most=True),
    Goal("fairness", OURS_ASGI, 1, metric="gap", at_most=True),
    Goal("slow-clients", "forkserve-threads", 100, metric="answered", variant="half a header"),
    Goal("slow-clients", OURS_WSGI, 100, metric="answered", variant="half a header"),
)

GOALS = (*SPEED, *COST, *BEHAVIOUR)


class _Run:
    """The figures of a run by cell and metric, round by round."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self.failed: set[Cell] = set()
        self.erring: set[Cell] = set()
        self._values: dict[tuple[Cell, str], dict[int, float]] = {}
        for m in measurements:
            if m.errors:
                self.erring.add(m.cell)
            if m.status is not Status.OK:
                self.failed.add(m.cell)
                continue
            for metric, value in m.values.items():
                self._values.setdefault((m.cell, metric), {})[m.round] = value

    def of(self, cell: Cell, metric: str) -> dict[int, float]:
        return self._values.get((cell, metric), {})

    def client_at_limit(self, cell: Cell) -> bool:
        shares = list(self.of(cell, "client_cpu").values())
        return bool(shares) and stat(shares).median > CLIENT_AT_LIMIT


def _against_rivals(goal: Goal, run: _Run) -> tuple[Stat | None, str]:
    """Return the least favourable result and whose it is."""
    within = difference_within_rounds if goal.difference else ratio_within_rounds
    ours = run.of(Cell(goal.scenario, goal.variant, goal.ours), goal.metric)
    results = []
    for rival in goal.theirs:
        found = within(ours, run.of(Cell(goal.scenario, goal.variant, rival), goal.metric))
        if found:
            results.append((found, rival))
    if not results:
        return None, ""
    worst = max if goal.at_most else min
    return worst(results, key=lambda result: result[0].median)


def _remarks(goal: Goal, run: _Run, *, measured: bool) -> tuple[str, ...]:
    cells = {server: Cell(goal.scenario, goal.variant, server) for server in (goal.ours, *goal.theirs)}
    remarks = [f"{server} failed" for server, cell in cells.items() if cell in run.failed]
    if not measured:
        return tuple(remarks)
    lacking = [s for s, cell in cells.items() if cell not in run.failed and not run.of(cell, goal.metric)]
    if lacking:
        remarks.append(f"without {', '.join(lacking)}")
    if goal.metric == "rate":
        remarks += [f"client at its limit with {s}" for s, cell in cells.items() if run.client_at_limit(cell)]
    if cells[goal.ours] in run.erring:
        remarks.append(f"{goal.ours} had errors")
    return tuple(remarks)


def _find(goal: Goal, run: _Run) -> Finding:
    ours = Cell(goal.scenario, goal.variant, goal.ours)
    values = run.of(ours, goal.metric)
    if not goal.theirs:
        found, rival = (stat(list(values.values())) if values else None), ""
    else:
        found, rival = _against_rivals(goal, run)
    by_cpu = None
    if rival and goal.metric == "rate":
        theirs = Cell(goal.scenario, goal.variant, rival)
        by_cpu = ratio_within_rounds(run.of(theirs, "cpu_us"), run.of(ours, "cpu_us"))
    return Finding(goal, found, rival, by_cpu, _remarks(goal, run, measured=found is not None))


def judge(measurements: Iterable[Measurement]) -> list[Finding]:
    """Return every goal with what this run says of it."""
    run = _Run(measurements)
    return [_find(goal, run) for goal in GOALS]
