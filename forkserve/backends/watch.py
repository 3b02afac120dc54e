"""`--timeout` when code of the application blocks the main thread: another thread watches it.

Theory of operation. The thread checks several times within one timeout a value that changes with all progress. When it
has been the same for a whole timeout, the main thread gets a signal, and its handler logs where the request is and
raises TimedOut there, only in code of the application: between our own lines a response might be half counted. If that
does not help within GRACE, since C code or the application goes on, the stacks of all threads go to the log and the
process ends, and is replaced.

Rules: nothing reaches the application before its time is over, since C code need not retry after EINTR (signal(7)), as
PEP 475 makes Python do. Checks are counted, not seconds: a process that was stopped (SIGSTOP, a debugger) is not late.
No timer is used, so those of setitimer(2) and SIGALRM remain free for the application, and none outlives an exec.
"""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable
from types import FrameType

from forkserve.serving.engine.limits import FOREVER, GRACE
from forkserve.serving.engine.native import allocate_lock, get_ident, start_new_thread
from forkserve.serving.failure import TimedOut, log_overdue
from forkserve.unix.signalmask import leave_signals_to_main

__all__ = ["Watch"]

NUMBER = signal.SIGRTMIN + 5
"""The signal that interrupts; sent only to the main thread of this process by pthread_kill(3)."""


class Watch:
    """Watches the main thread, in which it is created; `timeout` in seconds, checked `checks` times."""

    __slots__ = (
        "_bell",
        "_checks",
        "_closed",
        "_give_up",
        "_interval",
        "_late",
        "_main",
        "_patience",
        "_place",
        "_started",
        "_state",
        "_watches",
        "armed",
    )

    def __init__(
        self,
        timeout: float,
        checks: int,
        *,
        state: Callable[[], object],
        place: Callable[[FrameType | None], tuple[str, str] | None],
        give_up: Callable[[str], object],
    ) -> None:
        """Prepare; nothing is watched before `arm`.

        `state` returns what changes with all progress, None while there is nothing to watch; it is called by the thread
        and by the signal's handler. `place` returns the name for the log of the request whose code runs in a frame,
        None if it may not be interrupted there. `give_up` is called by the thread to end the process, with the reason.
        """
        self._watches = timeout != FOREVER
        self.armed = not self._watches
        self._checks = checks
        self._interval = timeout / checks
        self._patience = checks + math.ceil(GRACE / self._interval)
        self._state = state
        self._place = place
        self._give_up = give_up
        self._late: object = None
        self._closed = False
        self._started = False
        self._bell = allocate_lock()
        self._bell.acquire()
        self._main = get_ident()
        if self._watches:
            signal.signal(NUMBER, self._strike)

    def arm(self) -> None:
        """Start checking; called when there is something to watch and `armed` is False."""
        if not self._watches:
            return
        self.armed = True
        if not self._started:
            self._started = True
            start_new_thread(self._watch, ())
        self._ring()

    def close(self) -> None:
        """Stop checking, for good."""
        if self._watches:
            self._closed = True
            self._late = None
            self._ring()
            signal.signal(NUMBER, signal.SIG_IGN)

    def progressed(self) -> None:
        """Called by the thread when `state` has changed since its last look."""

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is rung already
            self._bell.release()

    def _watch(self) -> None:
        leave_signals_to_main()
        seen: object = None
        times = 0
        seconds = self._interval
        while True:
            rung = self._bell.acquire(timeout=seconds)
            if self._closed:
                return
            state = self._state()
            if state is None or state != seen:
                # What rang is often over by now. To disarm at once would have each request wake this thread.
                idle = state is None and seen is None and not rung
                # Once more after it is disarmed: an exchange may have begun after a look at `armed`.
                seconds = self._interval if self.armed or not idle else -1
                self.armed = not idle
                seen, times, self._late = state, 0, None
                if state is not None:
                    self.progressed()
                continue
            times += 1
            if times == self._checks:
                self._late = state
            if times >= self._patience:
                self._give_up("it does not come back from the application")
                return
            if self._late is not None:
                signal.pthread_kill(self._main, NUMBER)

    def _strike(self, _number: int, frame: FrameType | None) -> None:
        late = self._late
        if late is None or self._state() != late:
            return
        where = self._place(frame)
        if where is None:
            # The next look strikes again.
            return
        self._late = None
        log_overdue(*where, frame)
        raise TimedOut
