"""How many processes a watcher should have for its load: between a lowest and a highest number.

Theory of operation. The decision is based on `busy` workers: the mean share of capacity in use, times the workers. More
are started when the present ones have been nearly full for ten seconds, so many that each would be at `GOAL`, or sooner
when connections wait in the queue. One is stopped when for a whole minute the rest would have stayed under `LOW`, and
under `PEAK` in its busiest ten seconds.

The gap between the two prevents flapping: after a step up each worker is at GOAL or below, and a step down needs the
others to stay below LOW, which is less. Nothing is decided while workers start, and samples from before a change are
dropped.

Rules: pure; the clock is in the samples.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

__all__ = ["LoadSample", "Scaler"]

HIGH, GOAL, LOW = 0.8, 0.6, 0.45
"""Shares of capacity: above the first there are too few workers, at the second enough, below the third too many."""
PEAK = 0.7
"""The share that the busiest seconds of the last minute may have had, for the workers that would remain."""
UP_WINDOW, QUEUE_WINDOW, DOWN_WINDOW = 10.0, 1.5, 60.0
"""Seconds of load that a step up needs, of waiting connections, and those that a step down needs."""
SAMPLES = 4
"""Samples that a window must have."""


@dataclass(frozen=True, slots=True)
class LoadSample:
    """The load at one instant: the share of capacity in use, of this many ready workers, and the waiting
    connections.
    """

    at: float
    ready: int
    busy: float
    queued: int


@dataclass(slots=True)
class Scaler:
    """The load of one watcher since its number of processes was last changed."""

    samples: deque[LoadSample] = field(default_factory=deque)
    target: int = -1

    def decide(self, sample: LoadSample, target: int, *, lowest: int, highest: int) -> int:
        """Add a sample, and return how many processes are wanted; `target` is the current target."""
        if target != self.target or sample.ready < target:
            self.target = target
            self.samples.clear()
            return min(max(target, lowest), highest)
        self.samples.append(sample)
        while self.samples[0].at < sample.at - DOWN_WINDOW:
            self.samples.popleft()
        return min(max(self._more(sample.at) or self._fewer(sample.at) or target, lowest), highest)

    def _window(self, now: float, seconds: float) -> list[LoadSample]:
        """Return the samples of the last seconds, nothing if they do not reach back that far."""
        found = [each for each in self.samples if each.at >= now - seconds]
        reaches = self.samples[0].at <= now - seconds * 0.95
        return found if reaches and len(found) >= SAMPLES else []

    def _more(self, now: float) -> int | None:
        window = self._window(now, UP_WINDOW)
        if window and _mean(window) > HIGH * self.target:
            # what the workers cannot take is not seen, so a full house may need more than what is measured
            return min(max(math.ceil(_mean(window) / GOAL), self.target + 1), 2 * self.target)
        waiting = self._window(now, QUEUE_WINDOW)
        if waiting and all(each.queued for each in waiting):
            return self.target + max(1, self.target // 2)
        return None

    def _fewer(self, now: float) -> int | None:
        window = self._window(now, DOWN_WINDOW)
        if not window or self.target < 2 or any(each.queued for each in window):
            return None
        rest = self.target - 1
        if _mean(window) >= LOW * rest:
            return None
        parts = [window[at : at + len(window) // 6] for at in range(0, len(window), max(1, len(window) // 6))]
        return rest if all(_mean(part) < PEAK * rest for part in parts if part) else None


def _mean(window: list[LoadSample]) -> float:
    """Return the mean number of busy workers."""
    return sum(each.busy * each.ready for each in window) / len(window)
