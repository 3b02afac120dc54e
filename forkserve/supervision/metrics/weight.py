"""Which process of a watcher uses too much memory, and is replaced next.

Rules: pure. One at a time, the largest first: a leak is best cured by replacing the process that leaks most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Footprint", "MemoryLimits", "Overweight", "heaviest_over"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of one process in bytes: resident, and proportional; None if unknown."""

    number: int
    rss: int | None
    pss: int | None


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """The limits of a watcher, in bytes: for each process, and for the sum of the proportional sizes; 0 for no
    limit.
    """

    rss: int = 0
    pss: int = 0
    pss_total: int = 0

    def __bool__(self) -> bool:
        return bool(self.rss or self.pss or self.pss_total)


@dataclass(frozen=True, slots=True)
class Overweight:
    """A process that is to be replaced: which limit was passed, what was measured, and the limit."""

    number: int
    limit: str
    measured: int
    allowed: int


def heaviest_over(footprints: Sequence[Footprint], limits: MemoryLimits) -> Overweight | None:
    """Return the largest process that is over its own limit, or the largest of all if the sum is."""
    by_rss = max(footprints, key=lambda each: each.rss or 0, default=None)
    if limits.rss and by_rss is not None and (by_rss.rss or 0) > limits.rss:
        return Overweight(by_rss.number, "max_rss", by_rss.rss or 0, limits.rss)
    by_pss = max(footprints, key=lambda each: each.pss or 0, default=None)
    if by_pss is None or not by_pss.pss:
        return None
    if limits.pss and by_pss.pss > limits.pss:
        return Overweight(by_pss.number, "max_pss", by_pss.pss, limits.pss)
    total = sum(each.pss or 0 for each in footprints)
    if limits.pss_total and total > limits.pss_total:
        return Overweight(by_pss.number, "max_pss_total", total, limits.pss_total)
    return None
