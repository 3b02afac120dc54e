"""Turns of the loop for others, if an application keeps calling what needs no waiting."""

from __future__ import annotations

import asyncio

__all__ = ["Pace"]

AT_ONCE = 100
"""Calls in one turn of the loop that return at once."""
PAUSE = 0.01
"""Seconds that each further one waits, so that it costs almost no CPU time."""


class Pace:
    """Counts the calls of one exchange within a turn of the loop."""

    __slots__ = ("_count", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0

    async def step(self) -> None:
        """Return at once, or after a pause if there were many in this turn.

        At once, since a framework that only polls (Starlette's `is_disconnected`) cancels whatever would wait.
        """
        if self._count == 0:
            self._loop.call_soon(self._turned)
        self._count += 1
        if self._count > AT_ONCE:
            await asyncio.sleep(PAUSE)

    def _turned(self) -> None:
        self._count = 0
