"""Processes of a watcher that belong to no slot: they read a queue that has lost its reader, and then stop."""

from __future__ import annotations

from forkserve.errors import ForkserveError
from forkserve.supervision.events import ReaderNotStarted
from forkserve.supervision.process import Process
from forkserve.supervision.slots.population import Population
from forkserve.supervision.spawning.command import ProcessTemplate

__all__ = ["QueueDrainers"]


class QueueDrainers:
    """Starts and stops processes that read beside the slots of a population."""

    def __init__(self, population: Population) -> None:
        self._population = population

    def start(self, command: ProcessTemplate, wid: int | None = None) -> Process | None:
        """Request a process that belongs to no slot; None if that fails, which is reported.

        With `wid` it reads the queues that this slot had for itself.
        """
        population = self._population
        generation, own_queues = population.templates.generation, wid is not None
        try:
            return population.processes.start(command, wid or 1, generation, own_queues=own_queues)
        except (ForkserveError, OSError) as error:
            name = population.templates.in_force.options.name
            population.emit(ReaderNotStarted(watcher=name, reason=str(error)))
            return None

    def stop(self, pid: int) -> None:
        """Stop a process that was kept although another has taken its place; none of another watcher."""
        process = self._population.processes.find(pid)
        if process is not None and not process.is_asked_to_end:
            self._population.stop(process)
