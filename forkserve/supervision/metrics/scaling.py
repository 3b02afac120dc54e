"""How many processes a watcher should have for its load: between a lowest and a highest number.

Theory of operation. The decision is based on `busy` workers: the mean share of capacity in use, times the workers. More
are started when the present ones have been nearly full for ten seconds, so many that each would be at `GOAL`, or sooner
when connections wait in the queue. One is stopped when for a whole minute the rest would have stayed under `LOW`, and
under `PEAK` in its busiest ten seconds.

The gap between the two prevents flapping: after a step up each worker is at GOAL or below, and a step down needs the
others to stay below LOW, which is less. Nothing is decided while workers start for the first time, and samples from
before a change are dropped.

Rules: pure; the clock is in the samples.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

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
    """The load at one instant: the share of capacity in use, of this many ready workers, and the waiting connections.

    `renewing` are workers that are down for a moment, and have served before.
    """

    at: float
    ready: int
    busy: float
    queued: int
    renewing: int = 0


class _Window:
    """The samples of the last seconds, with their sums: a look at them costs the same however many they are."""

    __slots__ = ("busy", "samples", "seconds", "waiting")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.clear()

    def clear(self) -> None:
        """Forget all samples."""
        self.samples: deque[tuple[float, float, bool]] = deque()
        self.busy = 0.0
        self.waiting = 0

    def add(self, sample: LoadSample) -> None:
        """Add a sample, and forget those that are too old."""
        each = (sample.at, sample.busy * sample.ready, sample.queued > 0)
        self.samples.append(each)
        self.busy += each[1]
        self.waiting += each[2]
        while self.samples[0][0] < sample.at - self.seconds:
            _, busy, waits = self.samples.popleft()
            self.busy -= busy
            self.waiting -= waits

    def is_full(self, since: float) -> bool:
        """Tell whether it has enough samples, of which the first was taken at `since`."""
        return len(self.samples) >= SAMPLES and since <= self.samples[-1][0] - self.seconds * 0.95

    @property
    def mean(self) -> float:
        """The mean number of busy workers."""
        return self.busy / len(self.samples)

    def highest_part(self, parts: int) -> float:
        """Return the largest of the means of so many parts of it."""
        busy = [each[1] for each in self.samples]
        size = max(1, len(busy) // parts)
        return max(sum(part) / len(part) for part in (busy[at : at + size] for at in range(0, len(busy), size)))


class Scaler:
    """The load of one watcher since its number of processes was last changed, at `since`."""

    def __init__(self) -> None:
        self.target = -1
        self.since: float | None = None
        self._up, self._queue, self._down = map(_Window, (UP_WINDOW, QUEUE_WINDOW, DOWN_WINDOW))

    def decide(self, sample: LoadSample, target: int, *, lowest: int, highest: int) -> int:
        """Add a sample, and return how many processes are wanted; `target` is the current target."""
        windows = (self._up, self._queue, self._down)
        # of many workers that end after max_requests one is always missing
        if target != self.target or sample.ready + min(sample.renewing, sample.ready) < target:
            self.target = target
            if self.since is not None:
                self.since = None
                for window in windows:
                    window.clear()
            return min(max(target, lowest), highest)
        if self.since is None:
            self.since = sample.at
        for window in windows:
            window.add(sample)
        return min(max(self._more(self.since) or self._fewer(self.since, lowest) or target, lowest), highest)

    def _more(self, since: float) -> int | None:
        if self._up.is_full(since) and self._up.mean > HIGH * self.target:
            # what the workers cannot take is not seen, so a full house may need more than what is measured
            return min(max(math.ceil(self._up.mean / GOAL), self.target + 1), 2 * self.target)
        if self._queue.is_full(since) and self._queue.waiting == len(self._queue.samples):
            return self.target + max(1, self.target // 2)
        return None

    def _fewer(self, since: float, lowest: int) -> int | None:
        rest = self.target - 1
        if rest < max(lowest, 1) or self._down.waiting or not self._down.is_full(since):
            return None
        is_enough = self._down.mean < LOW * rest and self._down.highest_part(6) < PEAK * rest
        return rest if is_enough else None
