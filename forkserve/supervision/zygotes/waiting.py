"""The workers that wait to be forked by a zygote, and what it takes to start each.

A worker waits until its zygote has forked it, or until it is executed, refused or cancelled.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from forkserve.supervision.os.spawn import SpawnRefusal, SpawnStage
from forkserve.supervision.process import Process
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.spawning.start import Launch, SpawnServices, call_off
from forkserve.supervision.zygotes.state import ZygoteState

__all__ = ["WaitingWorkers"]


class WaitingWorkers:
    """Those of one watcher; `on_taken` is called with the number of each that stops waiting."""

    def __init__(self, services: SpawnServices, processes: Processes, on_taken: Callable[[int], None]) -> None:
        self.launches: dict[int, Launch] = {}
        self._services = services
        self._processes = processes
        self._on_taken = on_taken

    def take(self, process: Process) -> Launch:
        """Return what it takes to start a worker, which stops waiting."""
        self._on_taken(process.number)
        return self.launches.pop(process.number)

    def take_all(self, state: ZygoteState, but: int = 0) -> list[Process]:
        """Return the processes that wait for a zygote, except the one with this number; all stop waiting."""
        found = [self._processes.by_number.get(number) for number in state.waiting if number != but]
        state.waiting = [number for number in state.waiting if number == but]
        return [process for process in found if process is not None]

    def execute_all(self, state: ZygoteState) -> None:
        """Execute each that waits, so that it imports by itself."""
        for process in self.take_all(state):
            process.forked_by = 0
            self._processes.execute(process, self.launches[process.number])
            self.take(process)

    def refuse(self, process: Process, reason: str, number: int = errno.EAGAIN) -> None:
        """Make a request fail, like a start that the kernel refuses with this errno."""
        process.refusal = SpawnRefusal(number, SpawnStage.FORK, reason)
        self.call_off(process)

    def call_off(self, process: Process) -> None:
        """Release what it takes to start a worker."""
        if process.number in self.launches:
            call_off(self.take(process), self._services)
        self._processes.changed()
