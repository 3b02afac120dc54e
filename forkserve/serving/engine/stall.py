"""Tells a sibling that is stuck from one that would come at once, if the machine let it.

A sibling is late. If it sleeps, its application holds it: it is stuck. If it is ready to run, two looks some
milliseconds apart say what holds it: it is stuck if it has had the processor meanwhile, and excused if it has not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from forkserve.serving.engine.running import processor_time

__all__ = ["StallDetector"]

APART = 0.01
"""Seconds between the looks: the kernel counts by ticks of up to 10 ms."""
BETWEEN = 0.002
"""Seconds for which a look is good."""
ENOUGH = 0.1
"""Seconds after which no excuse counts."""


class _Look(NamedTuple):
    turn: float
    at: float
    used: float
    latest: float


class StallDetector:
    """What is known of late siblings, by number of record; each turn of theirs is judged by itself, as `Judge` says."""

    def __init__(self, look: Callable[[int], float | None] = processor_time) -> None:
        self._look = look
        self._looks: dict[int, _Look] = {}
        self.stuck: dict[int, float] = {}

    def is_stuck(self, number: int, pid: int, turn: float, now: float) -> bool:
        """Tell whether a sibling, which is late in this turn of its, is stuck."""
        first = self._looks.get(number)
        if first is not None and first.turn == turn and now - first.latest < BETWEEN:
            return False
        used = self._look(pid)
        if used is not None and (first is None or first.turn != turn):
            self._looks[number] = _Look(turn, now, used, now)
            return False
        if used is not None and first is not None and self._is_excused(first, used, now):
            self._looks[number] = first._replace(latest=now)
            return False
        self.stuck[number] = turn
        return True

    def _is_excused(self, first: _Look, used: float, now: float) -> bool:
        passed = now - first.at
        return passed < APART or (passed < ENOUGH and used - first.used < passed / 4)
