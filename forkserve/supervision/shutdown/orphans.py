"""The last round before the master ends: all remaining descendants, which have left their process groups, end too.

As a subreaper (or as PID 1) the master adopts every orphan of its processes, so the round is over when it has no child
left.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Container, Mapping
from typing import Any

import msgspec

from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import Event, OrphanFound, OrphansUnseen
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.proc import children_of

__all__ = ["OrphanReaper"]

PATIENCE = 5.0
"""Seconds between SIGTERM and SIGKILL, and then between two SIGKILLs."""

KILLS = 2
"""SIGKILLs without effect after which the rest is left to the kernel."""

_BREATH = 0.5
"""Seconds until the next try when /proc could not be read."""


class OrphanReaper:
    """Ends remaining children; `is_over` is called after every reaping, `again` after a deadline."""

    def __init__(self, loop: Loop, again: Callable[[], None], emit: Callable[[Event], None]) -> None:
        self.told: set[int] = set()
        self.kills = 0
        self.deadline: Deadline | None = None
        self._loop = loop
        self._emit = emit
        self._again = again
        self._blind_since: float | None = None
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def to_data(self) -> dict[str, Any]:
        """Return the progress of the last round, as plain data."""
        return {
            "told": sorted(self.told),
            "kills": self.kills,
            "deadline": msgspec.to_builtins(self.deadline),
            "blind_since": self._blind_since,
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from the progress of another one."""
        self.told, self.kills = set(data["told"]), data["kills"]
        self.deadline = msgspec.convert(data["deadline"], Deadline | None)
        self._blind_since = data["blind_since"]
        if self.deadline is not None:
            self._loop.call_at(self.deadline.instant, self._kill)

    def close(self) -> None:
        """Release the descriptor that is reserved for the last round."""
        if self._reserve >= 0:
            os.close(self._reserve)
        self._reserve = -1

    def is_over(self, *, spared: Container[int], quick: bool) -> bool:
        """Tell whether only spared children are left; signals children not seen before.

        `quick` kills at once.
        """
        self.close()  # reading /proc takes a descriptor, and all others may be in use
        try:
            left = [each for each in children_of(os.getpid()) if each.pid not in spared]
        except OSError as error:
            return self._is_hopeless(error)
        if not left or self.kills > KILLS:
            self.deadline = None
            return True
        for each in left:
            if each.pid not in self.told:
                self.told.add(each.pid)
                self._emit(OrphanFound(pid=each.pid, name=each.name))
                _send(each.pid, signal.SIGKILL if quick or self.kills else signal.SIGTERM)
        if self.deadline is None:
            self.deadline = Deadline.after(PATIENCE, DeadlineKind.STOP, self._loop.now())
            self._loop.call_at(self.deadline.instant, self._kill)
        return False

    def _is_hopeless(self, error: OSError) -> bool:
        """Try again later if descriptors have run out; True if that has failed for too long."""
        now = self._loop.now()
        if self._blind_since is None:
            self._blind_since = now
            self._emit(OrphansUnseen(reason=error.strerror or str(error)))
        if now - self._blind_since >= PATIENCE:
            return True
        self._loop.call_later(_BREATH, self._again)
        return False

    def _kill(self) -> None:
        if self.deadline is not None and self.deadline.is_due(self._loop.now()):
            self.kills += 1
            self.told.clear()
            self.deadline = None
            self._again()


def _send(pid: int, signum: int) -> None:
    with contextlib.suppress(OSError):  # it has ended since, or belongs to another user
        os.kill(pid, signum)
