"""Collects the dead, a few at a time: what is known of them is recorded before anything is done about one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.reap import Exit, reap
from forkserve.supervision.supervisor import Supervisor

__all__ = ["Reaper"]

AT_A_TIME = 0.01
"""Seconds of handling ends at a stretch; then signals and control have their turn."""

BATCH = 4
"""Ends that are recorded together: each may mean the start of a successor, which takes a few milliseconds."""


class Reaper:
    """`listeners` are called with each end that is no watcher's affair alone, `then` after every collecting."""

    def __init__(
        self,
        supervisor: Supervisor,
        loop: Loop,
        *,
        listeners: Sequence[Callable[[Exit], object]],
        then: Callable[[], None],
    ) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._listeners = tuple(listeners)
        self._then = then

    def reap(self) -> None:
        """Collect those that have ended, and do what follows; called after SIGCHLD."""
        enough = self._loop.now() + AT_A_TIME
        while exits := reap(BATCH):
            with Barrier(self._supervisor.emit, "the ends of some processes"):
                self._supervisor.reaped(exits)
            for each in exits:
                for tell in self._listeners:
                    with Barrier(self._supervisor.emit, f"the end of pid {each.pid}"):
                        tell(each)
            if len(exits) == BATCH and self._loop.now() > enough:
                self._loop.call_at(self._loop.now(), self.reap)
                break
        self._supervisor.settle()
        self._then()
