"""Tells a stuck sibling from one that would respond at once if the machine let it.

A sibling is late. If it sleeps, its application blocks it: it is stuck. If it is ready to run, two readings some
milliseconds apart decide: it is stuck if it has had the processor meanwhile, and starved if it has not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from forkserve.serving.engine.running import processor_time

__all__ = ["StallDetector"]

APART = 0.01
"""Seconds between the readings: the kernel counts by ticks of up to 10 ms."""
BETWEEN = 0.002
"""Seconds for which a reading is valid."""
ENOUGH = 0.1
"""Seconds after which no lack of a processor counts."""


class _Reading(NamedTuple):
    turn: float
    at: float
    used: float
    latest: float


class StallDetector:
    """The state of late siblings, by number of record; each of their turns is judged separately, as `Judge` says."""

    def __init__(self, processor_time: Callable[[int], float | None] = processor_time) -> None:
        self._processor_time = processor_time
        self._readings: dict[int, _Reading] = {}
        self.stuck: dict[int, float] = {}

    def is_stuck(self, number: int, pid: int, turn: float, now: float) -> bool:
        """Tell whether a sibling, which is late in this turn, is stuck."""
        first = self._readings.get(number)
        if first is not None and first.turn == turn and now - first.latest < BETWEEN:
            return False
        used = self._processor_time(pid)
        if used is not None and (first is None or first.turn != turn):
            self._readings[number] = _Reading(turn, now, used, now)
            return False
        if used is not None and first is not None and self._is_excused(first, used, now):
            self._readings[number] = first._replace(latest=now)
            return False
        self.stuck[number] = turn
        return True

    def _is_excused(self, first: _Reading, used: float, now: float) -> bool:
        passed = now - first.at
        return passed < APART or (passed < ENOUGH and used - first.used < passed / 4)
