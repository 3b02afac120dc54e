"""The last round before the master ends: whatever still descends from us, and has left its process group, ends too.

As a subreaper (or as PID 1) we adopt every orphan of our processes, so the round is over when we have no child left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Container

from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.proc import children_of

__all__ = ["Sweep"]

log = logging.getLogger("forkserve.master")

PATIENCE = 5.0
"""Seconds between SIGTERM and SIGKILL, and then between two SIGKILLs."""

KILLS = 2
"""SIGKILLs that go unanswered before the rest is left to the kernel, which holds it."""


class Sweep:
    """Ends our remaining children; `is_over` is asked after every reaping, `again` is called after a deadline."""

    def __init__(self, loop: Loop, again: Callable[[], None]) -> None:
        self._loop = loop
        self._again = again
        self._told: set[int] = set()
        self._kills = 0
        self._deadline: Timer | None = None

    def is_over(self, *, spared: Container[int], quick: bool) -> bool:
        """Tell whether no child is left but the spared ones; those that are new to us are told to end.

        `quick` kills at once.
        """
        left = [each for each in children_of(os.getpid()) if each.pid not in spared]
        if not left or self._kills > KILLS:
            if self._deadline is not None:
                self._deadline.cancel()
            return True
        for each in left:
            if each.pid not in self._told:
                self._told.add(each.pid)
                log.warning("pid %d (%s) has left its process group: ending it", each.pid, each.name)
                _send(each.pid, signal.SIGKILL if quick or self._kills else signal.SIGTERM)
        if self._deadline is None:
            self._deadline = self._loop.call_later(PATIENCE, self._kill)
        return False

    def _kill(self) -> None:
        self._kills += 1
        self._told.clear()
        self._deadline = None
        self._again()


def _send(pid: int, signum: int) -> None:
    with contextlib.suppress(OSError):  # it has ended since, or belongs to another user
        os.kill(pid, signum)
