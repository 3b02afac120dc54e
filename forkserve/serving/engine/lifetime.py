"""When a worker leaves by itself, to be replaced: its age, its size and its number of requests."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from typing import Any

from forkserve.config.serving import Lifetime
from forkserve.serving.engine.limits import FOREVER

__all__ = ["CountedStart", "LifetimeWatch", "limited_start"]

PAGE = os.sysconf("SC_PAGE_SIZE")


class LifetimeWatch:
    """The limits of one worker that began at `now`, an instant of the monotonic clock."""

    def __init__(self, options: Lifetime, now: float) -> None:
        self._options = options
        # Not all workers of one start together: up to a tenth later.
        seconds = options.max_lifetime * random.uniform(1.0, 1.1)
        self._leave_at = now + seconds if options.max_lifetime else FOREVER
        self.limited = bool(options.max_lifetime or options.max_rss)
        """Whether `reason` can ever be anything but ""."""

    def reason(self, now: float) -> str:
        """Return why the worker must leave; "" if it need not."""
        options = self._options
        if now >= self._leave_at:
            return f"it has served for {options.max_lifetime:g} s"
        if options.max_rss and resident() > options.max_rss:
            return f"it has more than {options.max_rss} bytes resident"
        return ""


class CountedStart:
    """Starts exchanges; `act` is called once, before number `limit` is started."""

    __slots__ = ("_act", "_left", "_start")

    def __init__(self, limit: int, start: Callable[[Any], None], act: Callable[[], object]) -> None:
        self._left = itertools.count(limit - 1, -1)
        self._start = start
        self._act = act

    def __call__(self, exchange: Any) -> None:
        """Start one."""
        if next(self._left) == 0:
            self._act()
        self._start(exchange)


def limited_start(
    options: Lifetime, start: Callable[[Any], None], *, leave: Callable[[str], None], warm: Callable[[], object]
) -> Callable[[Any], None]:
    """Return the function that starts exchanges.

    Before the last one `leave` is called, so that it can close its connection; `warm` is called when enough were served
    for the worker to be a zygote.
    """
    if options.refork_after:
        start = CountedStart(options.refork_after, start, warm)
    if options.max_requests:
        limit = options.max_requests + random.randint(0, options.max_requests_jitter)
        start = CountedStart(limit, start, lambda: leave(f"{limit} requests served"))
    return start


def resident() -> int:
    """Return the bytes of this process that are in memory: second in /proc/self/statm, in pages (proc(5)).

    0 if it cannot be read.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        # Descriptors have run out; there is a next time.
        return 0
