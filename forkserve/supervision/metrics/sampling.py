"""What is measured again and again: means and maxima between two readings of them.

Rules: pure; the observatory takes the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mean", "Peak"]


@dataclass(slots=True)
class Mean:
    """The mean of the samples since it was last read; the former one while there are none."""

    total: float = 0.0
    count: int = 0
    last: float = 0.0

    def add(self, value: float) -> None:
        """Take in a sample."""
        self.total += value
        self.count += 1

    def read(self) -> float:
        """Return the mean, and begin again."""
        if self.count:
            self.last = self.total / self.count
            self.total, self.count = 0.0, 0
        return self.last


@dataclass(slots=True)
class Peak:
    """A value of now, and the highest since it was last read."""

    now: float = 0.0
    highest: float = 0.0

    def set(self, value: float) -> None:
        """Note the value of now."""
        self.now = value
        self.highest = max(self.highest, value)

    def read(self) -> float:
        """Return the highest, and begin again with the value of now."""
        highest, self.highest = self.highest, self.now
        return highest
