"""`--timeout` when one piece of code blocks a whole event loop: no timer of the loop runs then, so `watch` checks.

Rules: the loop is asked from time to time to answer. Until it does, sending counts as progress too: a request that
blocks the loop is not late while it responds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from types import FrameType

from forkserve.backends.watch import Watch
from forkserve.serving.engine.driver import Driver
from forkserve.serving.failure import OURS

__all__ = ["LoopWatch", "Watchdog"]

CHECKS = 5
"""Checks within one timeout: it is accurate to a fifth."""
LOOPS = os.path.dirname(asyncio.__file__) + os.sep


class LoopWatch(Watch):
    """Watches the loop in which a driver is nested."""

    __slots__ = ("_answers", "_ask", "_driver")

    def __init__(
        self,
        driver: Driver,
        *,
        ask: Callable[[Callable[[], None]], object],
        place: Callable[[FrameType | None], tuple[str, str] | None],
        give_up: Callable[[str], object],
    ) -> None:
        """Prepare; `ask` is called by the watch's thread and lets the loop call its argument."""
        self._answers = 0
        self._ask = ask
        self._driver = driver
        super().__init__(driver.timeouts.timeout, CHECKS, state=self._progress, place=place, give_up=give_up)

    def progressed(self) -> None:
        """Ask again."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._ask(self.answer)

    def answer(self) -> None:
        """Called by the loop as its answer."""
        self._answers += 1

    def _progress(self) -> object:
        return (self._answers, self._driver.moved)


class Watchdog(LoopWatch):
    """Watches an asyncio loop, from now on."""

    __slots__ = ()

    def __init__(self, loop: asyncio.AbstractEventLoop, driver: Driver, give_up: Callable[[str], object]) -> None:
        super().__init__(driver, ask=loop.call_soon_threadsafe, place=_where, give_up=give_up)
        self.arm()


def _where(frame: FrameType | None) -> tuple[str, str] | None:
    """Return the name for the log of a loop that the application blocks; None between lines of the loop's or ours."""
    if frame is None or frame.f_code.co_filename.startswith((OURS, LOOPS)):
        return None
    return "the event loop", "blocked"
