"""The loop: waits for descriptors and instants in one place, and for nothing else.

It sleeps exactly until the next deadline, or for ever. A callback that raises is a bug of ours, logged with its
traceback, and the loop lives on: it is the fault barrier of every event of the master. Instants are seconds of the
monotonic clock, so a change of the wall clock moves nothing.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import selectors
import time
from collections.abc import Callable
from functools import partial

__all__ = ["Loop", "Timer"]

log = logging.getLogger("forkserve.loop")


class Timer:
    """An appointment with the loop that can be called off."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Call it off; a second time does nothing."""
        self.callback = None


class Loop:
    """Calls back for ready descriptors and due timers, one at a time, from `run` until `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = False

    def now(self) -> float:
        """Return the present instant."""
        return time.monotonic()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the ready events whenever `fd` is ready for `events`; a second call changes both."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor, before it is closed; an unknown one is no error."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def call_at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call back once, at or soon after `deadline`."""
        timer = Timer(deadline, callback)
        heapq.heappush(self._timers, (deadline, next(self._order), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay` seconds from now."""
        return self.call_at(self.now() + delay, callback)

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        while self._running:
            self.run_once()

    def stop(self) -> None:
        """Leave `run` after the present callback."""
        self._running = False

    def run_once(self) -> None:
        """Wait for the next event or deadline, and serve what is there."""
        for key, events in self._selector.select(self._timeout()):
            if key.fd in self._selector.get_map():  # an earlier callback of this batch may have closed it
                self._call(partial(key.data, events))
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                self._call(callback)

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("a bug in forkserve, please report it; this event is dropped and supervision goes on")

    def close(self) -> None:
        """Forget everything; the descriptors belong to their owners."""
        self._selector.close()
        self._timers.clear()
