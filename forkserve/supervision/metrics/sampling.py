"""Means and maxima between two readings.

Rules: pure; the observatory takes the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mean", "Peak"]


@dataclass(slots=True)
class Mean:
    """The mean of the samples since it was last read; the former mean if there are none."""

    total: float = 0.0
    count: int = 0
    last: float = 0.0

    def add(self, value: float) -> None:
        """Add a sample."""
        self.total += value
        self.count += 1

    def read(self) -> float:
        """Return the mean, and restart."""
        if self.count:
            self.last = self.total / self.count
            self.total, self.count = 0.0, 0
        return self.last


@dataclass(slots=True)
class Peak:
    """A current value, and its maximum since it was last read."""

    now: float = 0.0
    highest: float = 0.0

    def set(self, value: float) -> None:
        """Set the current value."""
        self.now = value
        self.highest = max(self.highest, value)

    def read(self) -> float:
        """Return the maximum, and restart from the current value."""
        highest, self.highest = self.highest, self.now
        return highest
