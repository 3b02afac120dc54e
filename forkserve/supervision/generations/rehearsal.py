"""Tries whether a program could be started, before the process that it is to replace is stopped.

A forked child does everything that a start does (finds the program, opens what it needs, changes the user and the
folder) and ends before exec. If something blocks, such as a dead network drive, it blocks the child and not the master.
"""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable, Set
from dataclasses import dataclass, replace

from forkserve.errors import ForkserveError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import SpawnRefusal, SpawnSpec
from forkserve.supervision.process import EXEC_PATIENCE
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.handover import Outputs
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.wording import reason_in

__all__ = ["Rehearsal", "Rehearser"]


@dataclass(slots=True)
class Rehearsal:
    """One try. `pid` is 0 once the child was reaped; `verdict` is None while open, "" for yes, or the reason why
    not.
    """

    offer: int
    pid: int = 0
    report: int = -1
    deadline: Deadline | None = None
    verdict: str | None = None


class Rehearser:
    """The tries of one watcher, one at a time; `on_verdict` is called when one is over."""

    def __init__(self, services: SpawnServices, name: str, on_verdict: Callable[[], None]) -> None:
        self.current: Rehearsal | None = None
        self._services = services
        self._name = name
        self._on_verdict = on_verdict

    def has_any(self, pids: Set[int]) -> bool:
        """Tell whether one of the pids is that of the child of the current try."""
        return self.current is not None and self.current.pid in pids

    @property
    def next_instant(self) -> float | None:
        """The instant at which the current try has taken too long."""
        deadline = None if self.current is None else self.current.deadline
        return None if deadline is None else deadline.instant

    def begin(self, command: ProcessTemplate, offer: int) -> None:
        """Begin a try; a former one is cancelled."""
        self.cancel()
        rehearsal = self.current = Rehearsal(offer)
        try:
            spawned = self._services.kernel.fork(self._spec(command), rehearse=True)
        except (ForkserveError, OSError) as error:
            rehearsal.verdict = reason_in(error)
            return
        rehearsal.pid, rehearsal.report = spawned.pid, spawned.report
        rehearsal.deadline = Deadline.after(EXEC_PATIENCE, DeadlineKind.EXEC, self._services.loop.now())
        self.watch()

    def _spec(self, command: ProcessTemplate) -> SpawnSpec:
        # its sockets are left out: a queue that this program is to have may be bound after the rehearsal only
        return replace(command.spec(1, self._services.fd_for, Outputs(None, None)), sockets={})

    def watch(self) -> None:
        """Wait for the verdict of the current try."""
        if self.current is not None and self.current.report >= 0:
            self._services.loop.watch(self.current.report, selectors.EVENT_READ, self._reported)

    def record(self, exit_: Exit) -> bool:
        """Note that a pid has been reaped; True if it was the child of the current try."""
        if self.current is None or exit_.pid != self.current.pid:
            return False
        self.current.pid = 0
        return True

    def due(self, now: float) -> None:
        """Cancel a try that has taken too long."""
        rehearsal = self.current
        if rehearsal is not None and rehearsal.deadline is not None and rehearsal.deadline.is_due(now):
            timeout = rehearsal.deadline.timeout
            self._end(rehearsal)
            rehearsal.verdict = f"cannot try out the program of {self._name}: not done within {timeout:g} s"
            self._on_verdict()

    def cancel(self) -> None:
        """Cancel the current try, and forget it."""
        if self.current is not None:
            self._end(self.current)
        self.current = None

    def _reported(self, _events: int) -> None:
        rehearsal = self.current
        if rehearsal is None or rehearsal.report < 0:
            return
        with Barrier(self._services.emit, f"the rehearsal of {self._name}"):
            outcome = self._services.kernel.outcome(rehearsal.report)
            if outcome is False:
                return
            rehearsal.verdict = outcome.text if isinstance(outcome, SpawnRefusal) else ""
            self._end(rehearsal)
            self._on_verdict()

    def _end(self, rehearsal: Rehearsal) -> None:
        rehearsal.deadline = None
        report, rehearsal.report = rehearsal.report, -1
        if report >= 0:
            self._services.loop.unwatch(report)
            self._services.kernel.close(report)
        pid, rehearsal.pid = rehearsal.pid, 0
        if pid:
            self._services.kernel.signal(pid, signal.SIGKILL)
