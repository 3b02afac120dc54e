"""Proof that the harness sees what it must: slow servers, lost requests, wrong answers, and ends that are no ends.

Each faulty server goes through the very code that measures the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bench.harness.clients import Plan
from bench.harness.context import Bench
from bench.harness.model import BenchError, Cell, Sample
from bench.harness.probe import Outcome, Request
from bench.harness.scenarios.base import Scenario
from bench.harness.scenarios.broken import BrokenDeploys, deploy
from bench.harness.scenarios.faults import QUEUED, FullQueue
from bench.harness.scenarios.pauses import Pauses
from bench.harness.scenarios.streams import SOCKETS, Streams
from bench.harness.scenarios.throughput import sample_of
from bench.harness.scenarios.upkeep import Scrape, Upgrades

__all__ = ["FAULTS", "ROWS", "check", "examine", "judge"]

# What must show for each server: a kind of failure, or nothing at all.
FAULTS: dict[str, Outcome | None] = {
    "honest": None,
    "slow": None,
    "lossy": Outcome.STALE,
    "mute": Outcome.TIMEOUT,
    "wrong": Outcome.BODY,
    "erring": Outcome.STATUS,
}


def examine(server: str, bench: Bench, *, timed: bool = True) -> Sample:
    """Measure one of the servers as a scenario would; without wrk only the verification runs."""
    launch = bench.launch("")
    with bench.ready(server, launch, Request()):
        checked = bench.verify(launch, Plan(Request(), 8, timeout=1.5), 0.4)
        if not timed:
            return Sample({}, checked.errors)
        return sample_of(bench.load(launch, Request(), connections=8), 0.0, checked, connections=8)


def check(bench: Bench) -> Iterable[tuple[str, bool, str]]:
    """Examine all; yield the server, whether the harness judged it rightly, and what it saw."""
    for server, fault in FAULTS.items():
        sample = examine(server, bench)
        rate = sample.values["rate"]
        seen = ", ".join(f"{count} x {kind}" for kind, count in sample.errors.items()) or "no errors"
        right = not sample.errors if fault is None else sample.errors.get(str(fault), 0) > 0
        if server == "slow":
            # 8 connections at 20 ms cannot have more than 400 answers a second, however quiet the machine is.
            right = right and rate <= 410 and sample.values["p50_ms"] >= 20
        yield server, right, f"{rate:,.0f} requests/s, {seen}"
    for row in ROWS:
        for server in ("good", "bad"):
            yield f"{row}, {server}", *judge(row, server, bench)


Values = Mapping[str, float]


def _scenario(scenario: Scenario, variant: str = "") -> Callable[[str, Bench], Values]:
    def measured(server: str, bench: Bench) -> Values:
        return scenario.measure(Cell(scenario.name, variant, server), bench)[0].values

    return measured


def _deployed(server: str, bench: Bench) -> Values:
    return {"survived": float(deploy(BrokenDeploys(), server, bench, "exits")[1])}


def _unpaused(server: str, bench: Bench) -> Values:
    # Neither has a control socket, so an order to pause must be an error, and not a row of good figures.
    seen: Values = {"refused": 1.0}
    try:
        seen = _scenario(Pauses())(server, bench)
    except* BenchError:  # a TaskGroup wraps it
        pass
    return seen


# How the good and the bad server are measured in each row, and what must be seen of the good one and of the bad one.
ROWS: Mapping[str, tuple[Callable[[str, Bench], Values], Callable[[Values], bool], Callable[[Values], bool]]] = {
    "broken-deploys": (_deployed, lambda seen: seen["survived"] == 1, lambda seen: seen["survived"] == 0),
    "streams": (
        _scenario(Streams()),
        lambda seen: (seen["whole"], seen["closed"]) == (1, SOCKETS),
        lambda seen: (seen["whole"], seen["cut"]) == (0, SOCKETS),
    ),
    "full-queue": (
        _scenario(FullQueue(), "TERM"),
        lambda seen: seen["answered"] == QUEUED,
        lambda seen: seen["answered"] == 0,
    ),
    "scrape": (_scenario(Scrape()), lambda seen: seen["median_ms"] < 100, lambda seen: seen["median_ms"] >= 100),
    "upgrades": (
        _scenario(Upgrades()),
        lambda seen: (seen["done"], seen["failed"]) == (0, 0),
        lambda seen: seen["done"] == 0 and seen["failed"] > 0,
    ),
    "pauses": (_unpaused, lambda seen: "refused" in seen, lambda seen: "refused" in seen),
}


def judge(row: str, server: str, bench: Bench) -> tuple[bool, str]:
    """Measure the good or the bad server for a row; return whether that shows which it is, and what was seen."""
    measure, good, bad = ROWS[row]
    seen = measure(server, bench)
    right = (good if server == "good" else bad)(seen)
    return right, ", ".join(f"{name} {value:g}" for name, value in seen.items())
