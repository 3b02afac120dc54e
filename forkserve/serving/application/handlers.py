"""Signal handlers of the process beside those of the application, which may install its own for the same signals.

Rules: ours run first, and theirs are called as well; whatever theirs raise is logged, since it would end a loop that
drains. The application may install one at any time, in a request too, so ours are reinstalled from time to time. A
process that the application forks has its own handlers, or the default action.
"""

from __future__ import annotations

import logging
import os
import signal

# The one in `signal` turns the mask into enums by a closure, and CPython 3.13 crashes if that allocation fails.
from _signal import pthread_sigmask  # type: ignore[import-not-found]
from _thread import get_ident
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from forkserve.wording import signal_name

__all__ = ["Handlers", "disarm_timers"]

log = logging.getLogger("forkserve.worker")

Handler = Callable[[int, FrameType | None], Any]


def disarm_timers() -> None:
    """Stop the interval timers: those of the application outlive its handlers, at exec and at the end of the
    interpreter.
    """
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0.0)


class Handlers:
    """Calls `actions` with the signal's name; created in the main thread, which installs them."""

    def __init__(self, actions: Mapping[signal.Signals, Callable[[str], None]]) -> None:
        self._pid = os.getpid()
        self._main = get_ident()
        self._ours = {number: self._handler(act) for number, act in actions.items()}
        self.numbers = frozenset(self._ours)
        """The signals that are handled."""
        self._theirs: dict[int, Handler] = {}
        self._calling: set[int] = set()

    def install(self) -> None:
        """Install them in place of existing handlers.

        Always, since a handler of C code (libev, faulthandler) is not visible here. Does nothing in another thread than
        the main one (signal.signal).
        """
        if get_ident() != self._main:
            return
        for number, ours in self._ours.items():
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                if before is not ours:
                    self._theirs[number] = before
            else:
                self._theirs.pop(number, None)
            signal.signal(number, ours)

    def reinstall(self) -> None:
        """Reinstall them after application code has run, which may have blocked their signals as well."""
        self.install()
        if get_ident() == self._main:
            pthread_sigmask(signal.SIG_UNBLOCK, self.numbers)

    def remove(self) -> None:
        """Restore the previous handlers."""
        for number in self._ours:
            signal.signal(number, self._theirs.get(number, signal.SIG_DFL))

    def ignore(self) -> None:
        """Ignore all of these signals from now on."""
        for number in self._ours:
            signal.signal(number, signal.SIG_IGN)

    def _handler(self, act: Callable[[str], None]) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            if os.getpid() != self._pid:
                self._in_child(number, frame)
                return
            # The application's handler may call the one that it has found: ours.
            if number not in self._calling:
                act(signal_name(number))
                self._call(number, frame)

        return handle

    def _call(self, number: int, frame: FrameType | None) -> None:
        theirs = self._theirs.get(number)
        if theirs is None:
            return
        self._calling.add(number)
        try:
            theirs(number, frame)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: the process ends when it has drained
            name = type(error).__name__
            log.warning("the application's handler of %s raised %s, which is ignored", signal_name(number), name)
        finally:
            self._calling.discard(number)

    def _in_child(self, number: int, frame: FrameType | None) -> None:
        theirs = self._theirs.get(number)
        if theirs is not None and number not in self._calling:
            signal.signal(number, theirs)
            theirs(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
