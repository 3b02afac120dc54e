"""`--timeout` where an application blocks its event loop: no timer of the loop runs then, so a signal looks.

Rules: the loop is asked now and then to answer. When it has not for as long as a request may take, the log says where
it is, and TimedOut is raised there: in the user's code alone, never between the lines of a loop or of ours. A signal
handler in Python runs in the main thread only, and not while C code does; so blocking system calls are interrupted,
which Python itself goes on with (PEP 475).
"""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType

from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.failure import OURS, TimedOut, log_overdue

__all__ = ["Watchdog"]

CHECKS = 5
"""Looks within one timeout: it is exact to a fifth."""
LOOPS = os.path.dirname(asyncio.__file__) + os.sep


class Watchdog:
    """Watches one loop; `timeout` in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop = loop
        self._answered = True
        self._times = 0
        self._armed = timeout != FOREVER
        if self._armed:
            signal.signal(signal.SIGALRM, self._look)
            signal.setitimer(signal.ITIMER_REAL, timeout / CHECKS, timeout / CHECKS)

    def close(self) -> None:
        """Watch no more: a signal would end an interpreter that has no handler any more."""
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _answer(self) -> None:
        self._answered = True

    def _look(self, _number: int, frame: FrameType | None) -> None:
        if self._answered:
            self._answered = False
            self._times = 0
            self._loop.call_soon_threadsafe(self._answer)
            return
        self._times += 1
        if self._times >= CHECKS and frame is not None and not frame.f_code.co_filename.startswith((OURS, LOOPS)):
            self._times = 0
            log_overdue("the event loop", "blocked", frame)
            raise TimedOut
