"""Which watcher waits for which to be ready, and what happens when that changes (`after`, `on_dependency`).

Theory of operation. A job that starts a watcher asks, by `awaited_by`, whether everything that the watcher depends on
is ready. After every event of a watcher `settled` compares its state with that before. If it has changed, its
dependents are checked; if it is no longer ready, they are restarted or stopped, as they ask for it.

Rules: it submits jobs and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forkserve.config.model import OnDependency
from forkserve.supervision.events import DependencyLost, Event
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Restart, Start, Stop
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.snapshot import Awaited
from forkserve.supervision.watcher import Watcher

__all__ = ["Dependencies", "is_hopeless"]


@dataclass(slots=True)
class Dependencies:
    """`queues` are those of all watchers by lower-case name; `stood` is how each was: serving, and complete."""

    queues: Mapping[str, JobQueue]
    emit: Callable[[Event], None]
    stood: dict[str, tuple[bool, bool]] = field(default_factory=dict)

    def after(self) -> dict[str, tuple[str, ...]]:
        """Return the names that each watcher depends on, in lower case."""
        return {name: tuple(map(str.lower, queue.watcher.options.after)) for name, queue in self.queues.items()}

    def awaited_by(self, watcher: Watcher) -> Awaited:
        """Return what a watcher must wait for; one that is no longer configured is not waited for."""
        names: list[str] = []
        unmet = ""
        for name in watcher.options.after:
            queue = self.queues.get(name.lower())
            if queue is not None and not _is_complete(queue.watcher):
                names.append(queue.watcher.name)
                unmet = unmet or _unmet(queue)
        return Awaited(tuple(names), unmet)

    def settled(self, watcher: Watcher) -> list[Watcher]:
        """Record the state of a watcher; returns the dependents to check if it has changed."""
        name = watcher.name.lower()
        now, before = (_is_serving(watcher), _is_complete(watcher)), self.stood.get(name, (False, False))
        self.stood[name] = now
        if now == before:
            return []
        dependent = [queue for queue in self.queues.values() if queue.watcher.options.after]
        found = [queue for queue in dependent if name in map(str.lower, queue.watcher.options.after)]
        if before[0] and not now[0]:
            for queue in found:
                self._lose(queue, watcher.name)
        return [queue.watcher for queue in found]

    def _lose(self, queue: JobQueue, dependency: str) -> None:
        watcher = queue.watcher
        wanted = watcher.options.on_dependency
        if wanted is OnDependency.KEEP or not watcher.up:
            return
        self.emit(DependencyLost(watcher=watcher.name, dependency=dependency, action=wanted.value))
        queue.submit(Restart() if wanted is OnDependency.RESTART else Stop())


def is_hopeless(watcher: Watcher) -> bool:
    """Tell whether no slot of a watcher will have a process again, unless someone starts it."""
    return all(slot.state is SlotState.FATAL or slot.finished for slot in watcher.slots.values())


def _is_serving(watcher: Watcher) -> bool:
    """Tell whether a process of a watcher is ready, or it has nothing to run, or everything that was to end has
    ended.
    """
    slots = watcher.slots.values()
    if watcher.timer.exists:
        return watcher.up
    if watcher.command.is_on_demand:  # its queue takes what comes before it serves
        return watcher.up and not (slots and is_hopeless(watcher))
    return watcher.up and (not slots or any(slot.is_ready for slot in slots) or all(slot.finished for slot in slots))


def _is_complete(watcher: Watcher) -> bool:
    """Tell whether a watcher serves, and all its processes have begun to, or have ended for good."""
    slots = watcher.slots.values()
    if watcher.timer.exists or watcher.command.is_on_demand:
        return _is_serving(watcher)
    has_begun = len(slots) == watcher.target and all(slot.serves or slot.finished for slot in slots)
    return has_begun and _is_serving(watcher)


def _unmet(queue: JobQueue) -> str:
    """Return why a watcher that is not ready will not become so by itself, or ""."""
    watcher = queue.watcher
    if watcher.up and watcher.slots and is_hopeless(watcher):
        return f"{watcher.name}, which was given up: {watcher.population.failures.last}"
    jobs = (*((queue.current,) if queue.current else ()), *queue.waiting)
    if watcher.up or watcher.awaits_start or any(isinstance(each.job, Start | Restart) for each in jobs):
        return ""
    return f"{watcher.name}, which is stopped: start it first"
