"""Repairs what a bug has left half done: after each, every watcher is checked for consistency.

Theory of operation. An exception that a barrier has caught may have come between two steps that belong together: a
process was started and has no slot, a predecessor was not told to stop, an exit was read and not recorded. A moment
after a bug all watchers are checked, each in its own barrier, and whatever no event or deadline would correct is
corrected. If bugs follow each other at once, the checks come ever later.

Rules: consistent state is left alone, so an extra check does no harm. A watcher that should stop and cannot even be
checked counts as gone; its processes end with the orphans.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import BugCaught, Event
from forkserve.supervision.lifecycle import ProcessState
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.process import EXEC_PATIENCE, Process
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["Repairs"]

SOON, LATEST = 0.05, 30.0
"""Seconds from a bug to the check after it, doubled while bugs follow each other."""

QUIET = 60.0
"""Seconds without a bug after which the next check is early again."""


class Repairs:
    """Checks all watchers after a bug; `reap` collects exits that the bug may have left unread."""

    def __init__(self, supervisor: Supervisor, loop: Loop, reap: Callable[[], object]) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._reap = reap
        self._timer: Timer | None = None
        self._delay = SOON
        self._checked_at = float("-inf")

    def on_event(self, event: Event) -> None:
        """Called with every event; schedules a check after a bug."""
        if isinstance(event, BugCaught):
            self.begin()

    def begin(self) -> None:
        """Check a moment later."""
        if self._timer is not None and self._timer.callback is not None:
            return
        now = self._loop.now()
        self._delay = SOON if now - self._checked_at > QUIET else min(2 * self._delay, LATEST)
        self._timer = self._loop.call_later(self._delay, self._check)

    def _check(self) -> None:
        self._timer, self._checked_at = None, self._loop.now()
        with Barrier(self._supervisor.emit, "the ends of some processes"):
            self._reap()
        for watcher in self._supervisor.watchers:
            is_sound = False
            with Barrier(self._supervisor.emit, f"the repair of {watcher.name}"):
                put_right(watcher, self._supervisor.pool.retired, self._loop.now())
                is_sound = True
            watcher.broken = watcher.broken or not (is_sound or watcher.up)
            self._supervisor.changed(watcher)
        self._supervisor.settle()


def put_right(watcher: Watcher, retired: Set[int], now: float) -> None:
    """Bring a watcher into a consistent state; readers of a `retired` queue may have lost their slot."""
    for process in watcher.processes.lost():
        watcher.handle_exit(process)
    for process in watcher.processes:
        if process.is_zygote or not process.is_alive:
            continue  # a zygote has no slot; an exit that was recorded is handled next
        if not process.is_asked_to_end and retired.isdisjoint(process.queues):
            _place(watcher, process)
        _expect(watcher, process, now)
    watcher.population.zygotes.go_on()
    if watcher.gate.mend():
        watcher.ask_again()
    if not watcher.up and watcher.slots and not watcher.timer.state.runs:  # a timer that is stopped may be run
        watcher.stop()
    if watcher.timer.exists:
        watcher.timer.settle()
        return
    for slot in watcher.slots.values():
        watcher.population.mend(slot)
    if watcher.up:
        watcher.resize(watcher.target)


def _place(watcher: Watcher, process: Process) -> None:
    """Stop a process that has no slot, and let a candidate that serves take its place."""
    population, slot = watcher.population, watcher.slots.get(process.wid)
    if slot is None or process not in (slot.occupant, slot.candidate):
        population.stop(process)
    elif process.is_ready and slot.candidate is process:
        population.succeed(slot)
    elif process.state is ProcessState.SPAWNING and process.said_ready:
        population.ready(process)


def _expect(watcher: Watcher, process: Process, now: float) -> None:
    """Set the deadline of a process that lacks the one its state requires."""
    if process.deadline is not None or process.end_at is not None:
        return
    if process.state is ProcessState.REQUESTED and not process.forked_by:
        process.deadline = Deadline.after(EXEC_PATIENCE, DeadlineKind.EXEC, now)
    elif process.state is ProcessState.SPAWNING:
        watcher.population.expect(process)
    elif process.state in (ProcessState.DRAINING, ProcessState.KILLING):
        watcher.processes.end_now(process, by_kill=True)
