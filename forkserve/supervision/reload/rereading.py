"""Starts readers for former queues, when the watcher of a queue serves again.

Theory of operation. A queue without a name gets no new connections, but those in it are established, and must be
answered. Its readers may have been stopped (`stop`, SIGWINCH) before they had emptied it. Then an extra process of the
watcher is started with that queue in place of the current one; it belongs to no slot, and is stopped when the queue is
empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from forkserve.supervision.jobqueue.dependencies import is_hopeless
from forkserve.supervision.jobs.advance import Reload
from forkserve.supervision.reload.retirement import Retirement
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["Rereading", "queues_awaited", "queues_wanted"]

_AGAIN = 1.0
"""Seconds after which a process for a former queue is tried again."""


class Rereading:
    """Starts the readers of former queues, and tells which queues stay open for them."""

    def __init__(self, supervisor: Supervisor, retirement: Retirement) -> None:
        self._supervisor = supervisor
        self._retirement = retirement
        self._not_before = 0.0

    def read_on(self, now: float) -> float | None:
        """Start a reader for the first queue that needs one; returns the seconds until another try, if needed."""
        for number in self._retirement.unread():
            found = self._reader_of(number)
            if found is None:
                continue
            if now < self._not_before:
                return self._not_before - now
            self._not_before = now + _AGAIN
            watcher, command = found
            process = watcher.queue_drainers.start(command)
            if process is not None:
                self._retirement.held.add(process.pid)
            return _AGAIN
        return None

    def needed(self) -> frozenset[int]:
        """Return the queues of coming processes, and those that will be read when their watcher serves again."""
        unread = [n for n in self._retirement.unread() if next(self._heirs(n), None) is not None]
        return queues_needed(self._supervisor).union(unread)

    def _heirs(self, queue: int) -> Iterator[tuple[Watcher, str]]:
        """Iterate over the watchers of a queue, and the current names of its sockets."""
        watchers = {each.name.lower(): each for each in self._supervisor.watchers if not each.leaving}
        for name, socket in sorted(self._retirement.origins.get(queue, ())):
            watcher = watchers.get(name)
            if watcher is None:
                continue
            sockets = watcher.command.all_sockets
            if socket in sockets:
                yield watcher, socket
            elif len(sockets) == 1:
                yield watcher, sockets[0]

    def _reader_of(self, queue: int) -> tuple[Watcher, ProcessTemplate] | None:
        for watcher, socket in self._heirs(queue):
            if watcher.up and any(slot.is_ready for slot in watcher.slots.values()):
                command = watcher.command
                return watcher, replace(command, numbers={**command.numbers, socket: queue})
        return None


def queues_needed(supervisor: Supervisor) -> frozenset[int]:
    """Return the queues that coming processes may get: of commands in force, offered, or gone back to."""
    needed: set[int] = set()
    for queue in supervisor:
        if queue.watcher.leaving:
            continue
        templates = queue.watcher.templates
        commands = [templates.in_force, *templates.offers.values()]
        job = None if queue.current is None else queue.current.job
        if isinstance(job, Reload) and job.before in templates.by_generation:
            commands.append(templates.by_generation[job.before])
        needed.update(number for command in commands for number in command.queues)
    return frozenset(needed)


def queues_wanted(supervisor: Supervisor) -> frozenset[int]:
    """Return the queues of the watchers that run, or will without being asked to."""
    wanted = (each for each in supervisor.watchers if each.up or each.awaits_start or each.paused)
    return frozenset(number for watcher in wanted for number in watcher.command.queues)


def queues_awaited(supervisor: Supervisor, names: Collection[str]) -> frozenset[int]:
    """Return the queues of the watchers that still try to run, although they may have no process at the moment."""
    trying = (each for each in supervisor.watchers if each.name in names and each.up and not is_hopeless(each))
    return frozenset(number for watcher in trying for number in watcher.command.queues)
