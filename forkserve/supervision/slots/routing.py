"""Which slots get connections when each has its own queue (`so_reuseport`), and what happens to a queue without a slot.

Theory of operation. After every event the slots are determined whose process serves: only their queues get new
connections (`unix.slotqueues`). What waits in the queue of a process that has died waits for its successor. The queue
of a removed slot is closed when it is empty; if something waits there and its process has died, a process is started
beside the slots to take it, and stops then. When `so_reuseport` was switched off, all slots but the first count as
removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from forkserve.socketpool import SocketPool
from forkserve.supervision.process import Process
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.slots.queuedrainers import QueueDrainers
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.unix.listeners import BoundListener
from forkserve.unix.sealing import is_waiting
from forkserve.unix.slotqueues import FIRST, SlotQueues

__all__ = ["ConnectionRouting", "RoutedWatcher", "slots_to_route_to"]


_TRIES = 5
"""Processes that are started for what waits in the queue of one removed slot."""


class RoutedWatcher(Protocol):
    """What it needs of a watcher."""

    target: int

    @property
    def command(self) -> ProcessTemplate:
        """The command of its next process."""

    @property
    def processes(self) -> Processes:
        """Its processes, including those told to stop."""

    @property
    def queue_drainers(self) -> QueueDrainers:
        """Starts and stops processes that belong to no slot."""


def slots_to_route_to(processes: Iterable[Process]) -> set[int]:
    """Return the slots whose queues are read by processes that serve and are not about to stop.

    A process from before `so_reuseport` was switched on reads from the queue of the first slot.
    """
    serving = (each for each in processes if each.is_ready and not each.is_asked_to_end and not each.held)
    return {each.wid if each.own_queues else FIRST for each in serving}


def _key(process: Process) -> tuple[str, int]:
    return process.watcher, process.number


class ConnectionRouting:
    """Spreads the connections of all queues of a pool over the slots of watchers."""

    def __init__(self, pool: SocketPool, watchers: Callable[[], Iterable[RoutedWatcher]]) -> None:
        self._pool = pool
        self._watchers = watchers

    def reroute(self) -> None:
        """Spread connections over those that serve now; called after every event."""
        for number, listener in self._pool.queues.items():
            if listener.slots.sockets:
                self._reroute_queue(number, listener)

    def _reroute_queue(self, number: int, listener: BoundListener) -> None:
        readers = [each for each in self._watchers() if number in each.command.queues]
        wanted = {wid for each in readers for wid in range(1, each.target + 1)}
        serving = list(self._reading(number))
        beside = listener.slots.beside.values()
        route_to = slots_to_route_to(each for each in serving if _key(each) not in beside)
        listener.slots.deal(listener.socket, wanted & route_to)
        self._end_beside(listener.slots, serving)
        kept = wanted if listener.has_slots else {FIRST}
        for wid in listener.slots.beside.keys() & kept:  # the slot is back; it may go again
            if all(_key(each) != listener.slots.beside[wid] for each in serving):
                listener.slots.forget_beside(wid)
        for wid in sorted(listener.slots.sockets.keys() - kept):
            is_read = any(process.own_queues and process.wid == wid for process in serving)
            if not is_read and not self._is_taken(wid, listener.slots, readers):
                listener.slots.drop(wid, listener.socket)
                self._pool.update_store()

    def _reading(self, number: int) -> Iterator[Process]:
        for watcher in self._watchers():
            yield from (each for each in watcher.processes.workers if number in each.queues)

    def _end_beside(self, slots: SlotQueues, serving: Iterable[Process]) -> None:
        """Let the processes beside the slots take what waits, and end."""
        for process in serving:
            if process.is_ready and slots.beside.get(process.wid) == _key(process):
                for watcher in self._watchers():
                    watcher.queue_drainers.stop(process.pid)

    def _is_taken(self, wid: int, slots: SlotQueues, readers: Iterable[RoutedWatcher]) -> bool:
        """Tell whether what waits in the queue of a removed slot will be taken; what takes it may be killed, too."""
        tries = slots.tries.get(wid, 0)
        if tries >= _TRIES or not is_waiting(slots.sockets[wid]):
            return False
        for watcher in readers:
            slots.tries[wid] = tries + 1
            process = watcher.queue_drainers.start(watcher.command, wid)
            if process is not None:
                slots.beside[wid] = _key(process)
                return True
        return wid in slots.tries
