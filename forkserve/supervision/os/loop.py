"""The loop: waits for descriptors and instants in one place, and for nothing else.

It sleeps exactly until the next deadline, or for ever. A callback that raises is a bug of forkserve. It is logged with
its traceback, and the loop goes on: it is the fault barrier of every event of the master. Instants are seconds of the
monotonic clock, so a change of the wall clock has no effect.

With a limit (FORKSERVE_LOOP_LIMIT, for tests) a callback that blocks the loop for longer is logged as an error. The
time counts in which the callback ran or slept, not that in which it waited for a processor.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import resource
import selectors
import time
from collections.abc import Callable
from functools import partial

__all__ = ["LIMIT", "Loop", "Timer"]

LIMIT = "FORKSERVE_LOOP_LIMIT"
"""The variable with the seconds for which a callback may block the loop."""

_TOGETHER = 0.001
"""Seconds within which two readings are of one instant; a busy machine takes the processor away between them."""
_TRIES = 10

log = logging.getLogger("forkserve.loop")


class Timer:
    """A scheduled call that can be cancelled."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Cancel it; a second call does nothing."""
        self.callback = None


class _Stopwatch:
    """Measures how long this thread ran or slept, without the time that it waited for a processor.

    A thread that has not given up the processor by itself has not slept: a hypervisor took the missing time.
    """

    def __init__(self) -> None:
        self._begun = (0.0, 0.0, 0)
        try:
            self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without it: only the run time is known
            self._schedstat = -1

    def start(self) -> None:
        """Start measuring."""
        self._begun = self._now()

    def held(self) -> float:
        """Return the seconds since `start`."""
        wall, ran, slept = (now - begun for now, begun in zip(self._now(), self._begun, strict=True))
        return wall if slept else ran

    def _now(self) -> tuple[float, float, int]:
        """Return the time without that on a run queue, the time on a processor, and how often it was given up."""
        ran = time.thread_time()
        if self._schedstat < 0:
            return ran, ran, 0
        for _ in range(_TRIES):
            before = time.monotonic()
            waited = int(os.pread(self._schedstat, 100, 0).split()[1])  # nanoseconds on a run queue
            now = time.monotonic()
            if now - before < _TOGETHER:
                break
        return now - waited / 1e9, ran, resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    def close(self) -> None:
        """Close its descriptor."""
        if self._schedstat >= 0:
            os.close(self._schedstat)
        self._schedstat = -1


class Loop:
    """Calls back for ready descriptors and due timers, one at a time, from `run` until `stop`.

    `limit` is the number of seconds that a callback may take without a complaint; 0 measures nothing.
    """

    def __init__(self, *, limit: float = 0.0) -> None:
        self._limit = limit
        self._stopwatch = _Stopwatch() if limit > 0 else None
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = False
        self.on_bug: Callable[[], None] = lambda: None
        """Called when a callback has raised, and that was logged."""
        self._began = self.now()

    @property
    def began(self) -> float:
        """The instant at which the current callback began: what is done in portions leaves time for the others."""
        return self._began

    def now(self) -> float:
        """Return the current instant."""
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
        """Leave `run` after the current callback."""
        self._running = False

    def run_once(self) -> None:
        """Wait for the next event or deadline, and handle it."""
        for key, events in self._selector.select(self._timeout()):
            # an earlier callback of this batch may have closed it, and another descriptor may have its number since
            if self._selector.get_map().get(key.fd) is key:
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
        self._began = self.now()
        if self._stopwatch is None:
            self._guarded(callback)
            return
        self._stopwatch.start()
        self._guarded(callback)
        held = self._stopwatch.held()
        if held > self._limit:
            log.error("held the loop for %.3f s, limit %g s: %s", held, self._limit, _name(callback))

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("a bug in forkserve, please report it; this event is dropped and supervision goes on")
            self.on_bug()

    def close(self) -> None:
        """Forget everything; the descriptors belong to their owners."""
        self._selector.close()
        self._timers.clear()
        if self._stopwatch is not None:
            self._stopwatch.close()


def _name(callback: Callable[..., object]) -> str:
    while isinstance(callback, partial):
        callback = callback.func
    return getattr(callback, "__qualname__", repr(callback))
