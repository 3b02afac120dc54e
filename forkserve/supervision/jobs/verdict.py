"""Whether a new generation may go on: a canary's figures against those of the processes beside it, over the same time.

Theory of operation. Four things are compared, each for one process or one request, so that the number of processes of
each generation does not matter: crashes, the share of answers of 500 and more, how many requests took longer than
`latency` times the former 99th percentile, and resident memory. A share counts as larger if it is so beyond chance: by
more than three standard deviations of a binomial distribution during the comparison, which is repeated, and two at its
end. Shares and latency need `requests` answers; without them only crashes and memory decide.

Rules: pure.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from math import sqrt

from forkserve.supervision.figures import GenerationFigures
from forkserve.unix.counters import BOUNDS

__all__ = ["MEMORY_SLACK", "QUICK", "CanaryLimits", "CanaryOutcome", "CanaryVerdict", "compare"]

SLOW_PART = 0.01
"""The share of requests that may be slower than the 99th percentile."""
QUICK = 0.025
"""Seconds within which an answer never counts as slow."""
MEMORY_SLACK = 16 * 1024 * 1024
"""Bytes of memory by which a process may always exceed the others."""
_EARLY, _LATE = 3.0, 2.0


class CanaryOutcome(Enum):
    """The result of a comparison."""

    OPEN = "open"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryLimits:
    """How much worse a canary may be.

    `errors` is in percent of all requests, `latency` and `memory` are factors, `requests` is how many a generation must
    have answered for its answers to count.
    """

    requests: int = 50
    errors: float = 1.0
    latency: float = 2.0
    memory: float = 2.0


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """An outcome, and why."""

    outcome: CanaryOutcome
    reason: str = ""


def compare(old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits, *, is_over: bool) -> CanaryVerdict:
    """Return the verdict on a new generation; both figures are of the time since it was ready (`since`)."""
    found = _crashes(old, new) or _memory(old, new, limits)
    is_enough = new.requests >= limits.requests
    if not found and is_enough:
        found = _errors(old, new, limits, _LATE if is_over else _EARLY)
    if not found and is_enough and old.requests >= limits.requests:
        found = _latency(old, new, limits, _LATE if is_over else _EARLY)
    if found:
        return CanaryVerdict(CanaryOutcome.ROLL_BACK, found)
    if not is_over:
        return CanaryVerdict(CanaryOutcome.OPEN)
    if not is_enough:
        return CanaryVerdict(
            CanaryOutcome.PROMOTE, f"no crash; {new.requests} of {limits.requests} requests that its answers need"
        )
    share = f"{new.error_share:.1%} answered by 5xx ({old.error_share:.1%} before)"
    slowest = f"p99 {_said(new.quantile(0.99))} ({_said(old.quantile(0.99))} before)"
    return CanaryVerdict(CanaryOutcome.PROMOTE, f"{new.requests} requests, {share}, {slowest}")


def _crashes(old: GenerationFigures, new: GenerationFigures) -> str:
    if new.crashes * max(old.processes, 1) <= old.crashes * max(new.processes, 1):
        return ""
    return f"{new.crashes} crashed of {max(new.processes, 1)}, {old.crashes} of {old.processes} before"


def _memory(old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits) -> str:
    if not old.memory or new.memory <= old.memory * limits.memory + MEMORY_SLACK:
        return ""
    return f"{new.memory >> 20} MiB of memory a process, {old.memory >> 20} MiB before"


def _errors(old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits, deviations: float) -> str:
    allowed = min(old.error_share + limits.errors / 100, 1.0)
    if not _exceeds(new.errors, new.requests, allowed, deviations):
        return ""
    return f"{new.error_share:.1%} of {new.requests} requests answered by 5xx, {old.error_share:.1%} before"


def _latency(old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits, deviations: float) -> str:
    usual = old.quantile(1 - SLOW_PART)
    first = bisect_left(BOUNDS, max(usual * limits.latency, QUICK))
    if first >= len(BOUNDS):
        return ""
    slow, total = sum(new.latency[first + 1 :]), sum(new.latency)
    if not _exceeds(slow, total, SLOW_PART, deviations):
        return ""
    return f"p99 {_said(new.quantile(1 - SLOW_PART))}, {_said(usual)} before"


def _exceeds(count: int, total: int, share: float, deviations: float) -> bool:
    """Tell whether this many of all exceed a share by more than chance."""
    return count > total * share + deviations * sqrt(total * share * (1 - share))


def _said(seconds: float) -> str:
    """Return a quantile as text: up to 25 ms, over 10 s."""
    if seconds > BOUNDS[-1]:
        return f"over {BOUNDS[-1]:g} s"
    return f"up to {seconds:g} s" if seconds >= 1 else f"up to {seconds * 1000:g} ms"
