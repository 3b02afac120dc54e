"""Medians, spreads and ratios.

A ratio is taken within one round, where both sides met the same machine, then the median of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Stat", "difference_within_rounds", "percentile", "ratio_within_rounds", "stat"]


@dataclass(frozen=True, slots=True)
class Stat:
    """The median of a few rounds with the lowest and highest of them."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Half the range as a share of the median: 0.05 reads "plus or minus 5 %"; 0 when the median is 0."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def stat(values: Sequence[float]) -> Stat:
    """Sum up the rounds of one server; raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    return Stat(median(values), min(values), max(values), len(values))


def ratio_within_rounds(mine: Mapping[int, float], base: Mapping[int, float]) -> Stat | None:
    """Divide round by round; rounds that only one side finished, or where the base is 0, do not count."""
    ratios = [value / base[number] for number, value in mine.items() if base.get(number)]
    return stat(ratios) if ratios else None


def difference_within_rounds(mine: Mapping[int, float], base: Mapping[int, float]) -> Stat | None:
    """Subtract round by round; rounds that only one side finished do not count."""
    differences = [value - base[number] for number, value in mine.items() if number in base]
    return stat(differences) if differences else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies (nearest rank); raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
