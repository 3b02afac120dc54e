"""Stops the processes of a watcher that was unused for a while (`on_demand` with `idle_stop`).

Theory of operation. The observatory calls when it has sampled everything. Our worker writes in its page of the
scoreboard how many requests it has begun and ended: it is in use if the two differ, or have changed since the last
call. For other programs the kernel is asked, once a second, for an established connection to their port. The unknown
counts as use.

Rules: nothing is stopped while a watcher has a job, starts or replaces something.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import ConfigRead, Event, WatcherRests
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.metrics.observatory import Observatory
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher
from forkserve.unix.counters import PageReading
from forkserve.unix.listeners import BoundListener
from forkserve.unix.queues import is_connected

__all__ = ["IdleClock", "IdleStop"]

ASKED_EVERY = 1.0
"""Seconds between two queries of the kernel, which walks its table of connections for each."""


@dataclass(slots=True)
class IdleClock:
    """When a watcher was last in use, and what its workers had begun by then; `asked_at` is that of the last query."""

    used_at: float
    begun: tuple[tuple[int, int], ...] = ()
    asked_at: float = float("-inf")
    connected: bool = True


@dataclass(slots=True)
class IdleStop:
    """Watches all watchers with `idle_stop`."""

    supervisor: Supervisor
    observatory: Observatory
    clocks: dict[str, IdleClock] = field(default_factory=dict)

    def begin(self) -> None:
        """Let the observatory sample, if a watcher has `idle_stop`."""
        if self.stop_idle not in self.observatory.on_sampled:
            self.observatory.on_sampled.append(self.stop_idle)
        if any(each.options.idle_stop for each in self.supervisor.watchers):
            self.observatory.begin()

    def on_event(self, event: Event) -> None:
        """Begin if the configuration asks for it; subscribed to the bus."""
        if isinstance(event, ConfigRead):
            self.begin()

    def stop_idle(self, now: float) -> Iterator[None]:
        """Called by the observatory when it has sampled everything; a step is one watcher."""
        for queue in tuple(self.supervisor):
            if not queue.watcher.options.idle_stop:
                self.clocks.pop(queue.watcher.name, None)
                continue
            if self.supervisor.find(queue.watcher.name) is queue.watcher:
                with Barrier(self.supervisor.emit, f"the use of {queue.watcher.name}"):
                    self._stop_if_idle(queue, now)
            yield
        for name in self.clocks.keys() - {each.name for each in self.supervisor.watchers}:
            del self.clocks[name]

    def _stop_if_idle(self, queue: JobQueue, now: float) -> None:
        watcher = queue.watcher
        if not (watcher.command.is_on_demand and watcher.awake):
            self.clocks.pop(watcher.name, None)
            return
        clock = self.clocks.setdefault(watcher.name, IdleClock(now))
        if not _is_at_rest(queue) or self._is_used(watcher, clock, now):
            clock.used_at = now
        elif now - clock.used_at >= watcher.options.idle_stop:
            del self.clocks[watcher.name]
            idle, count = now - clock.used_at, len(watcher.processes.workers)
            self.supervisor.emit(WatcherRests(watcher=watcher.name, seconds=idle, processes=count))
            watcher.rest()

    def _is_used(self, watcher: Watcher, clock: IdleClock, now: float) -> bool:
        listeners = list(self._listeners(watcher))
        if any(each.is_waiting for each in listeners):
            return True
        pages = dict(_pages(watcher))
        begun = tuple((number, page.begun) for number, page in pages.items())
        moved, clock.begun = begun != clock.begun, begun
        if moved or any(page.begun != page.ended for page in pages.values()):
            return True
        are_ours = all(page.patience or page.begun for page in pages.values())
        if are_ours and len(pages) == len(watcher.processes.workers):
            return False
        if now - clock.asked_at >= ASKED_EVERY:
            clock.asked_at, clock.connected = now, _are_connected(listeners)
        return clock.connected

    def _listeners(self, watcher: Watcher) -> Iterator[BoundListener]:
        for number in watcher.command.queues:
            if number in self.supervisor.pool.queues:
                yield self.supervisor.pool.queues[number]


def _pages(watcher: Watcher) -> Iterator[tuple[int, PageReading]]:
    for process in watcher.processes.workers:
        if process.record >= 0:
            yield process.number, watcher.processes.board.page(process.record)


def _are_connected(listeners: Iterable[BoundListener]) -> bool:
    """Tell whether a client is, or may be, connected to one of these sockets."""
    return any(is_connected(each.socket) is not False for each in listeners)


def _is_at_rest(queue: JobQueue) -> bool:
    """Tell whether nothing of a watcher is in transition, and it accepts connections."""
    watcher = queue.watcher
    if any(slot.state is SlotState.FATAL for slot in watcher.slots.values()):  # it would look as if it were well
        return False
    is_still = watcher.up and queue.is_idle and watcher.is_settled and watcher.drain_until is None
    return is_still and not watcher.population.held
