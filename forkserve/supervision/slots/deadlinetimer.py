"""One timer of the loop for all deadlines of a watcher, and what is done when they are due.

Rules: deadlines are data of the objects they concern; only the timer is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import DeadlineKind
from forkserve.supervision.events import Event
from forkserve.supervision.lifecycle import SlotTrigger
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.process import Process
from forkserve.supervision.processes.pacing import AT_A_TIME
from forkserve.supervision.slots.population import Population

__all__ = ["Act", "DeadlineTimer", "acts_on_processes", "acts_on_slots"]

Act = tuple[str, Callable[[], None]]
"""An action: its name, for the report of a bug, and the function."""


class DeadlineTimer:
    """The one timer of a watcher. `acts` iterates over what is due at an instant, `then` is called after it."""

    def __init__(
        self,
        loop: Loop,
        emit: Callable[[Event], None],
        acts: Callable[[float], Iterator[Act]],
        then: Callable[[], None],
        *,
        stretch: float,
    ) -> None:
        """`stretch` is the number of seconds for which other events can wait."""
        self._loop = loop
        self._emit = emit
        self._acts = acts
        self._then = then
        self._stretch = stretch
        self._timer: Timer | None = None

    def arm(self, wanted: float | None) -> None:
        """Call at this instant; None if nothing is to be done."""
        if wanted is not None:  # what is overdue waits for its next turn, so that others have theirs
            wanted = max(wanted, self._loop.now())
        if self._timer is not None:
            if self._timer.deadline == wanted and self._timer.callback is not None:
                return
            self._timer.cancel()
        self._timer = None if wanted is None else self._loop.call_at(wanted, self._due)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        """Do what is due, for as long as other events can wait; the rest follows in another turn."""
        self._timer = None
        now = self._loop.now()
        for what, act in self._acts(now):
            with Barrier(self._emit, what):
                act()
            if self._loop.now() > now + self._stretch:
                break
        self._then()


def acts_on_processes(
    population: Population, now: float, *, ended: Callable[[Process], None], aged: Callable[[Process], None]
) -> Iterator[Act]:
    """Iterate over what is due for the processes; `ended` and `aged` are called for decisions of the watcher."""
    told = 0
    for process in population.processes:
        if process.never_began or process.exit is not None:  # recorded, and a bug came in between
            yield f"the end of {process}", partial(ended, process)
        elif process.end_at is not None and process.end_at <= now and told < AT_A_TIME:
            told += 1
            yield f"the end of {process}", partial(population.processes.end_now, process, by_kill=process.end_by_kill)
        elif (instant := process.next_instant) is not None and instant <= now and process.end_at is None:
            yield f"a deadline of {process}", partial(_due_of, population, process, now, aged)


def acts_on_slots(population: Population, now: float) -> Iterator[Act]:
    """Iterate over the slots that are due for another try."""
    for slot in tuple(population.slots.values()):
        if slot.retry is not None and slot.retry.is_due(now):
            slot.retry = None
            what = f"the retry of {population.templates.in_force.options.name}[{slot.wid}]"
            yield what, partial(population.event, slot, SlotTrigger.DUE)


def _due_of(population: Population, process: Process, now: float, aged: Callable[[Process], None]) -> None:
    if process.deaf_until is not None and process.deaf_until <= now:
        population.processes.channels.hear_again(process)
    if process.leaves_by is not None and process.leaves_by <= now:
        process.leaves_by = None
    if process.probe_at is not None and process.probe_at <= now:
        population.prober.due(process)
    if process.watchdog_at is not None and process.watchdog_at <= now:
        population.processes.miss_watchdog(process)
    if process.age_at is not None and process.age_at <= now:
        process.age_at = None
        aged(process)
    deadline = process.deadline
    if deadline is not None and deadline.is_due(now):
        process.deadline = None
        if deadline.kind is DeadlineKind.SETTLE:
            population.ready(process)
        else:
            population.processes.miss(process, deadline)
