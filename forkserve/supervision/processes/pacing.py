"""How many processes are told to end at a stretch: a signal may take the kernel long. Pure."""

from __future__ import annotations

__all__ = ["AT_A_TIME", "EndingPace"]

AT_A_TIME = 25
"""Processes that are told to end at a stretch; then whatever else has happened has its turn."""

_STRETCH = 0.05
"""Seconds without an end after which the next one begins a stretch."""


class EndingPace:
    """Counts the ends of the stretch that goes on."""

    def __init__(self) -> None:
        self._last_at = 0.0
        self._number = 0

    def admits(self, now: float) -> bool:
        """Count an end at an instant; False when it is to wait for another turn."""
        self._number = 1 + (self._number if now - self._last_at < _STRETCH else 0)
        self._last_at = now
        return self._number <= AT_A_TIME
