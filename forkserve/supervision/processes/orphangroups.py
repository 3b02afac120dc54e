"""The process groups that ended processes have left behind: asked to stop, and killed if they do not.

Rules: state is plain data (`process.OrphanedGroup`); the watcher's one timer does what is due (`acts`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from forkserve.supervision.deadline import Deadline, DeadlineKind, earliest
from forkserve.supervision.events import OrphansRemain
from forkserve.supervision.process import KILL_PATIENCE, OrphanedGroup, Process, Stopping
from forkserve.supervision.spawning.start import SpawnServices

__all__ = ["OrphanedGroups"]


@dataclass(slots=True)
class OrphanedGroups:
    """The groups that the processes of one watcher have left."""

    services: SpawnServices
    left: list[OrphanedGroup] = field(default_factory=list)

    def __iter__(self) -> Iterator[OrphanedGroup]:
        """Iterate over the groups; they may be removed meanwhile."""
        return iter(tuple(self.left))

    def __len__(self) -> int:
        return len(self.left)

    @property
    def next_instant(self) -> float | None:
        """The first instant at which something is due for one of them."""
        return earliest(each.deadline.instant for each in self.left)

    def add(self, leader: Process, stopping: Stopping, *, killed: bool) -> None:
        """Start to end what a reaped process has left; `killed` means that it was ended by our SIGKILL."""
        kernel, now = self.services.kernel, self.services.loop.now()
        if not kernel.signal_group(leader.pgid, signal.SIGKILL if killed else stopping.signum):
            self.services.on_group_ended(leader.pgid)
            return
        kernel.signal_group(leader.pgid, signal.SIGCONT)
        deadline = (
            Deadline.after(KILL_PATIENCE, DeadlineKind.KILL, now)
            if killed
            else Deadline.after(stopping.timeout, DeadlineKind.STOP, now)
        )
        self.left.append(OrphanedGroup(pgid=leader.pgid, leader=str(leader), killed=killed, deadline=deadline))
        self.forget_ended()

    def forget_ended(self) -> bool:
        """Forget the groups that have ended, and those that even SIGKILL does not end; True if there were any."""
        over = [each for each in self.left if each.abandoned or not self.services.kernel.signal_group(each.pgid, 0)]
        for each in over:
            self.left.remove(each)
            self.services.on_group_ended(each.pgid)
        return bool(over)

    def kill_all(self) -> None:
        """Kill all groups."""
        for each in self.left:
            self._kill(each)

    def acts(self, now: float) -> Iterator[tuple[str, Callable[[], None]]]:
        """Iterate over what is due."""
        for group in self:
            if group.deadline.is_due(now):
                yield f"the deadline of what {group.leader} has left", partial(self._miss, group)

    def _miss(self, group: OrphanedGroup) -> None:
        """Kill a group that has not ended in time, or abandon it if it was killed before."""
        group.deadline = Deadline.after(KILL_PATIENCE, DeadlineKind.KILL, self.services.loop.now())
        if not self.services.kernel.signal_group(group.pgid, 0):
            return
        self.services.emit(OrphansRemain(leader=group.leader, survived=group.killed))
        if group.killed:
            group.abandoned = True
        else:
            self._kill(group)

    def _kill(self, group: OrphanedGroup) -> None:
        group.killed = True
        group.deadline = Deadline.after(KILL_PATIENCE, DeadlineKind.KILL, self.services.loop.now())
        self.services.kernel.signal_group(group.pgid, signal.SIGKILL)
