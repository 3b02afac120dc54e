"""Collects exited processes, for a moment at a stretch.

Rules: one is collected when what follows from the one before is done, since each may start a successor, which takes
milliseconds. The others stay with the kernel, which reports them later just as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.reap import Exit, reap
from forkserve.supervision.supervisor import Supervisor

__all__ = ["Reaper"]

AT_A_TIME = 0.005
"""Seconds of handling exits at a stretch; then signals and control have their turn."""


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
        self._rest: Timer | None = None

    def reap(self) -> None:
        """Collect exited processes and handle them; called after SIGCHLD."""
        enough = self._loop.now() + AT_A_TIME
        if self._rest is not None:  # else a turn would take longer with each SIGCHLD of a storm
            self._rest.cancel()
            self._rest = None
        while exits := reap(1):
            self._tell(exits)
            if self._loop.now() > enough:
                self._rest = self._loop.call_at(self._loop.now(), self.reap)
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
