"""Replaces the occupant of a slot while it still serves, because it is too old or too large."""

from __future__ import annotations

from collections.abc import Callable

from forkserve.supervision.events import Event, ProcessAged
from forkserve.supervision.process import Process
from forkserve.supervision.slot import Slot
from forkserve.supervision.slots.filling import SlotFiller
from forkserve.supervision.slots.population import Population
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.timers.timer import WatcherTimer

__all__ = ["Renewal"]


class Renewal:
    """`runs_beside` tells whether the successor of a process may start before the process has ended."""

    def __init__(
        self,
        population: Population,
        filler: SlotFiller,
        timer: WatcherTimer,
        services: SpawnServices,
        runs_beside: Callable[[], bool],
    ) -> None:
        self._population = population
        self._filler = filler
        self._timer = timer
        self._services = services
        self._runs_beside = runs_beside

    def renew(self, process: Process, why: Event) -> None:
        """Replace the occupant of a slot for the given reason: its successor starts first if it may."""
        slot = self._slot_of(process)
        if slot is None:
            return
        self._services.emit(why)
        if self._runs_beside():
            self._filler.replace(slot)
        else:
            self._population.stop_first(slot)

    def too_old(self, process: Process) -> None:
        """Replace a process that has reached its age; if the replacement fails, try again later."""
        if self._slot_of(process) is None:
            return
        if self._timer.exists:
            self._timer.time_out(process)
            return
        options, now = self._population.templates.in_force.options, self._services.loop.now()
        # It would never serve, where it takes longer to be ready than it may live. Without a `max_age` in force it is
        # of a former generation: the new one replaces it, or is taken back.
        if not process.is_ready or not options.max_age:
            process.age_at = now + (min(options.max_age, 1.0) or 1.0)
            return
        turn = self._filler.renewal_at(now)
        if turn > now:
            process.age_at = turn
            return
        process.age_at = now + max(options.backoff_max, 1.0)
        self.renew(process, ProcessAged(**process.names(), uptime=now - process.started_at))

    def _slot_of(self, process: Process) -> Slot | None:
        """Return the slot of a process that occupies one and is not about to stop."""
        slot = self._population.slots.get(process.wid)
        if slot is None or slot.occupant is not process or process.is_asked_to_end:
            return None
        return slot
