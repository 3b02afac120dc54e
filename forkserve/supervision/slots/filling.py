"""Fills the vacant slots of a watcher, as fast as `warmup_delay` and the other events allow."""

from __future__ import annotations

from forkserve.config.model import WatcherOptions
from forkserve.supervision.lifecycle import SlotState, SlotTrigger
from forkserve.supervision.slot import Slot
from forkserve.supervision.slots.population import Population
from forkserve.supervision.spawning.start import SpawnServices

__all__ = ["STRETCH", "SlotFiller"]

STRETCH = 0.005
"""Seconds of starting processes at a stretch; then other events have their turn."""

_ALONE = 0.1
"""Seconds between checks whether the stopping process of a singleton has ended."""


class SlotFiller:
    """`not_before` is the instant of the next start that `warmup_delay` allows, `warm_at` the next check of vacant
    slots.
    """

    def __init__(self, population: Population, services: SpawnServices) -> None:
        self.not_before = 0.0
        self.warm_at: float | None = None
        self._population = population
        self._services = services

    @property
    def _options(self) -> WatcherOptions:
        return self._population.templates.in_force.options

    def fill(self, target: int) -> None:
        """Fill the vacant ones of this many slots, lowest first; sets `warm_at` if that needs more time."""
        population = self._population
        enough = self._services.loop.now() + STRETCH
        for wid in range(1, target + 1):
            slot = population.slots.get(wid)
            if slot is not None and (slot.state is not SlotState.VACANT or slot.finished):
                continue
            if population.failures.outlook.code is not None:
                population.slots[wid] = Slot(wid, SlotState.FATAL, reason="not tried, since the first cannot start")
                continue
            if not self.may_spawn():
                return
            population.event(population.slots.setdefault(wid, Slot(wid)), SlotTrigger.WANT_UP)
            if self._services.loop.now() > enough:
                self.come_back_at(enough)
                return

    def replace(self, slot: Slot) -> None:
        """Start a candidate for a slot, unless `warmup_delay` requires a pause."""
        if slot.candidate is None and not slot.asking and self.may_spawn():
            self._population.admission.spawn(slot, beside=True)

    def renewal_at(self, now: float) -> float:
        """Return the first instant at which a renewal may start a process: it lets all others start before it, or
        with `warmup_delay` it could keep them from that for ever.
        """
        if self.warm_at is not None:
            return max(self.warm_at, self.not_before, now + _ALONE)
        return max(self.not_before, now)

    def vacate(self, wid: int) -> None:
        """Stop the process of one slot, which stays vacant until `admit`."""
        slot = self._population.slots.setdefault(wid, Slot(wid))  # it may not have come to its start yet
        slot.stopped = slot.finished = True
        slot.reason = ""
        self._population.event(slot, SlotTrigger.WANT_DOWN)
        self._population.on_changed()

    def admit(self, wid: int) -> None:
        """Have the process of one slot started, at once if it was stopped, or had failed."""
        slot = self._population.slots.get(wid)
        if slot is not None:
            slot.stopped = slot.finished = False
            if slot.state in (SlotState.BACKOFF, SlotState.FATAL):
                self._population.event(slot, SlotTrigger.RESET)
        self.come_back_at(self._services.loop.now())
        self._population.on_changed()

    def may_spawn(self) -> bool:
        """Tell whether the next start may happen now; if not, schedule a check for when it may."""
        now = self._services.loop.now()
        if self._options.singleton and self._population.processes:  # `decr` has stopped it, `incr` wants it again
            self.come_back_at(now + _ALONE)
            return False
        if now >= self.not_before:
            self.not_before = now + self._options.warmup_delay
            return True
        self.come_back_at(self.not_before)
        return False

    def is_due(self, now: float) -> bool:
        """Tell whether vacant slots are to be checked now; the check is then no longer scheduled."""
        if self.warm_at is None or now < self.warm_at:
            return False
        self.warm_at = None
        return True

    def come_back_at(self, instant: float) -> None:
        """Check vacant slots at this instant, or earlier if that is already due."""
        if self.warm_at is None:
            self.warm_at = instant
