"""How many processes are ended at a stretch: the kernel may take long for a signal. Pure."""

from __future__ import annotations

__all__ = ["AT_A_TIME", "EndingPace"]

AT_A_TIME = 25
"""Processes that are ended at a stretch; then other events have their turn."""

_STRETCH = 0.05
"""Seconds without an end after which the next one begins a stretch."""


class EndingPace:
    """Counts the ends of the current stretch."""

    def __init__(self) -> None:
        self._last_at = 0.0
        self._number = 0

    def admits(self, now: float) -> bool:
        """Count an end at an instant; False if it must wait for another turn."""
        self._number = 1 + (self._number if now - self._last_at < _STRETCH else 0)
        self._last_at = now
        return self._number <= AT_A_TIME
