"""Proof that the harness sees what it must.

a slow server, lost requests, a server gone mute, wrong bodies, wrong statuses.

Each faulty server goes through the very code that measures the real ones.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.harness.clients import Plan
from bench.harness.context import Bench
from bench.harness.model import Sample
from bench.harness.probe import Outcome, Request
from bench.harness.scenarios.throughput import sample_of

__all__ = ["FAULTS", "check", "examine"]

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
