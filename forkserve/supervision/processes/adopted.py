"""Processes that another master has started, no children of ours: their ends come by pidfd, without a code.

Theory of operation. A pidfd (pidfd_open(2)) leads to one process, even when another has its number: it is readable
when that has ended, and signals go through it. To the rest of supervision such an end is one of which nobody knows how.

Rules: the kernel sends what a process of theirs has left to the subreaper above us, so groups are polled.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.reap import Exit
from forkserve.unix.descriptors import descriptor, number_of

__all__ = ["AdoptedProcesses"]

POLL_INTERVAL = 0.1
"""Seconds between two polls of the groups that they have left."""


class AdoptedProcesses:
    """`ended` is called with their ends; `forget_ended` forgets ended groups, and tells whether some remain."""

    def __init__(
        self, kernel: Kernel, loop: Loop, ended: Callable[[Sequence[Exit]], None], forget_ended: Callable[[], bool]
    ) -> None:
        self._kernel = kernel
        self._loop = loop
        self._ended = ended
        self._forget_ended = forget_ended

    def __contains__(self, pid: int) -> bool:
        return pid in self._kernel.adopted

    def take(self, pid: int, pidfd: int) -> None:
        """Look after a process from now on; the descriptor is ours then."""
        self._kernel.adopted[pid] = pidfd
        self._loop.watch(pidfd, selectors.EVENT_READ, lambda _events: self._over(pid))

    def miss(self, pids: Sequence[int]) -> None:
        """State that these have ended before anybody looked after them."""
        self._kernel.bereft.update(pids)
        if pids:
            self._loop.call_later(0.0, lambda: self._ended([Exit(pid, None, None) for pid in pids]))
            self._loop.call_later(POLL_INTERVAL, self._poll_groups)

    def _over(self, pid: int) -> None:
        pidfd = self._kernel.adopted.pop(pid)
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        self._kernel.bereft.add(pid)
        self._ended([Exit(pid, None, None)])
        self._loop.call_later(POLL_INTERVAL, self._poll_groups)

    def _poll_groups(self) -> None:
        if self._forget_ended():
            self._loop.call_later(POLL_INTERVAL, self._poll_groups)

    def to_data(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {str(pid): descriptor(pidfd) for pid, pidfd in self._kernel.adopted.items()}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on with those of another."""
        for pid, pidfd in data.items():
            if number_of(pidfd) >= 0:
                self.take(int(pid), number_of(pidfd))
