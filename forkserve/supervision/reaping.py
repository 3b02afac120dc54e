"""Collects exited processes, a few at a time: all are recorded before one is acted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.reap import Exit, reap
from forkserve.supervision.supervisor import Supervisor

__all__ = ["Reaper"]

AT_A_TIME = 0.01
"""Seconds of handling exits at a stretch; then signals and control have their turn."""

BATCH = 4
"""Exits that are recorded together: each may start a successor, which takes a few milliseconds."""


class Reaper:
    """`listeners` are called with each exit that concerns more than one watcher, `then` after every round."""

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
        """Collect exited processes and handle them; called after SIGCHLD."""
        enough = self._loop.now() + AT_A_TIME
        while exits := reap(BATCH):
            self._tell(exits)
            if len(exits) == BATCH and self._loop.now() > enough:
                self._loop.call_at(self._loop.now(), self.reap)
                break
        self._supervisor.settle()
        self._then()

    def ended(self, exits: Sequence[Exit]) -> None:
        """Do what follows from the ends of processes that are no children of ours."""
        self._tell(exits)
        self._supervisor.settle()
        self._then()

    def _tell(self, exits: Sequence[Exit]) -> None:
        with Barrier(self._supervisor.emit, "the ends of some processes"):
            self._supervisor.reaped(exits)
        for each in exits:
            for tell in self._listeners:
                with Barrier(self._supervisor.emit, f"the end of pid {each.pid}"):
                    tell(each)
