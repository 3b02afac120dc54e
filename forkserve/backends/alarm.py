"""`--timeout` where the loop itself calls the application: a signal interrupts what the loop cannot.

Rules: no timer for each request. A coarse interval timer runs while requests do; when it finds the same request often
enough it logs where that is, and raises TimedOut there. It raises in the user's code alone: between our own lines a
response might be half counted. A signal handler in Python runs in the main thread only, and not while C code does.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from forkserve.serving.engine.driver import Driver
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.upkeep import Counted
from forkserve.serving.failure import OURS, TimedOut, log_overdue
from forkserve.wsgi import Exchange

__all__ = ["Alarm"]

CHECKS = 10
"""Looks within one timeout: it is exact to a tenth."""


class Alarm:
    """Watches `current`, which is set while an exchange runs."""

    __slots__ = ("_interval", "_seen", "_times", "armed", "current")

    def __init__(self, timeout: float) -> None:
        self.current: Exchange | None = None
        self.armed = False
        self._interval = 0.0 if timeout == FOREVER else timeout / CHECKS
        self._seen: Any = None
        self._times = 0
        if self._interval:
            # Without SA_RESTART: a read that the kernel restarts never comes back to Python, whose own retry
            # (PEP 475) runs the handler first.
            signal.signal(signal.SIGALRM, self._look)

    def arm(self) -> None:
        """Begin to watch; call it when an exchange starts and `armed` is False."""
        self.armed = True
        if self._interval:
            signal.setitimer(signal.ITIMER_REAL, self._interval, self._interval)

    def disarm(self) -> None:
        """Stop watching for good: a timer that outlives its handler would end the process (setitimer(2))."""
        if self._interval:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def _look(self, _number: int, frame: FrameType | None) -> None:
        current = self.current
        if current is not self._seen or current is None:
            if current is None and self._seen is None:
                self.armed = False
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            self._seen = current
            self._times = 0
            return
        self._times += 1
        if self._times >= CHECKS and _in_application(frame):
            self._times = 0
            log_overdue(current.line.method, current.line.path, frame)
            raise TimedOut


def _in_application(frame: FrameType | None) -> bool:
    """Tell whether the application runs, or what it called."""
    called: FrameType | None = None
    while frame is not None and frame.f_code not in _CALLERS:
        if frame.f_code.co_filename.startswith(OURS):
            # It is in one of our functions, which may not be left half way; it will come out again.
            return False
        called, frame = frame, frame.f_back
    return frame is not None and called is not None


_CALLERS = frozenset(
    each.__code__
    for each in (
        *(Exchange.run, Exchange.answer, Exchange._pump, Exchange._end),
        *(Driver.ready, Driver.begin, Driver._begin_body, Driver._take_body, Counted.__call__),
    )
)
"""Which of our functions call the application, and which call the C that does."""
