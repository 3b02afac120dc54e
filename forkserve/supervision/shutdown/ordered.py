"""Stops all watchers in reverse order of priority, a group at a time, then ends all other descendants.

Rules: it reports when everything is over; `lifecycle` decides what that means for the master. A watcher that a bug
keeps from stopping counts as gone, and its processes end with the orphans.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import StopStage
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobqueue.turns import JobTurns
from forkserve.supervision.jobs.advance import Stop
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.shutdown.closing import QueueCloser
from forkserve.supervision.shutdown.orphans import OrphanReaper
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["OrderedStop"]


class OrderedStop:
    """The stop of everything, from `begin` until `is_over`; `again` is called when it is time to check that."""

    def __init__(self, supervisor: Supervisor, turns: JobTurns, loop: Loop, again: Callable[[], None]) -> None:
        self._supervisor = supervisor
        self._turns = turns
        self._waiting: list[list[JobQueue]] = []
        self._stopping: list[JobQueue] = []
        self._closer = QueueCloser(supervisor.pool, loop, supervisor.processes, supervisor.emit)
        self._orphans = OrphanReaper(loop, again, supervisor.emit)

    def to_data(self) -> dict[str, Any]:
        """Return its progress as plain data; watchers are names."""
        return {
            "to_stop": [_names(group) for group in self._waiting],
            "stopping": _names(self._stopping),
            "closing": {str(number): instant for number, instant in self._closer.filled.items()},
            "orphans": self._orphans.to_data(),
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from the progress of another one, with watchers that have been read already."""
        queues = {queue.watcher.name: queue for queue in self._supervisor}
        self._waiting = [[queues[name] for name in group if name in queues] for group in data["to_stop"]]
        self._stopping = [queues[name] for name in data["stopping"] if name in queues]
        self._closer.go_on({int(number): instant for number, instant in data["closing"].items()})
        self._orphans.restore(data["orphans"])

    def begin(self) -> None:
        """Queue all groups; `is_over` stops one after the other."""
        self._waiting = self._supervisor.in_order()

    def hurry(self) -> None:
        """Shorten the stop of those that are stopping already."""
        for watcher in self._supervisor.watchers:
            watcher.hurry()

    def kill(self) -> None:
        """Kill everything at once, in no order."""
        self._waiting.clear()
        self._turns.clear()
        for watcher in self._supervisor.watchers:
            self._end(watcher, watcher.kill)

    def seal(self, name: str, queues: Sequence[int]) -> None:
        """Seal the queues of a watcher that stops for good, except those that another still reads."""
        if not queues:
            return
        others = [each for each in self._supervisor.watchers if each.up and each.name != name]
        self._closer.seal(set(queues) - {number for each in others for number in each.command.queues})

    def is_over(self, *, spared: Container[int], quick: bool) -> bool:
        """Stop the next group if the one before has gone; True when all have, and only spared children are left.

        `quick` kills orphans at once.
        """
        while self._waiting and self._is_stage_over:
            self._stopping = self._waiting.pop()
            self._supervisor.emit(StopStage(watchers=tuple(queue.watcher.name for queue in self._stopping)))
            self._turns.each(
                self._stopping, lambda queue: self._end(queue.watcher, partial(queue.submit, Stop(closing=True)))
            )
        if self._waiting or self._turns.is_busy or not self._supervisor.is_gone:
            return False
        return self._orphans.is_over(spared=spared, quick=quick)

    @property
    def _is_stage_over(self) -> bool:
        return not self._turns.is_busy and all(queue.watcher.is_gone for queue in self._stopping)

    def _end(self, watcher: Watcher, how: Callable[[], object]) -> None:
        ended = False
        with Barrier(self._supervisor.emit, f"the stop of {watcher.name}"):
            how()
            ended = True
        watcher.broken = watcher.broken or not ended


def _names(queues: Sequence[JobQueue]) -> list[str]:
    return [queue.watcher.name for queue in queues]
