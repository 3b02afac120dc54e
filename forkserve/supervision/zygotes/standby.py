"""Zygotes of former generations that are kept for a rollback.

Theory of operation. If a deploy overwrites files in place, what a zygote has imported may no longer be on disk. So the
zygote of the last good generation stays when its workers have ended. It forks nothing until a rollback returns to its
generation. It stays while enough memory is free, in the machine and in the control group. If it ends it is not started
again, since another one would import what is on disk by then.
"""

from __future__ import annotations

from collections.abc import Iterable

from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import ZygoteNotKept
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.zygotes.state import ZygoteState

__all__ = ["LEAST_SPARE", "LOOKED_EVERY", "Standby"]

LEAST_SPARE = 0.1
"""Share of the memory that must be free."""
STATUS = "kept for a rollback"
LOOKED_EVERY = 10.0
"""Seconds between two checks of the memory."""


class Standby:
    """Those of one watcher."""

    def __init__(self, services: SpawnServices, processes: Processes) -> None:
        self._services = services
        self._processes = processes

    def is_ready(self, state: ZygoteState) -> bool:
        """Tell whether the zygote has imported its application, and is not about to end."""
        zygote = self._processes.by_number.get(state.process)
        return zygote is not None and zygote.is_ready and not zygote.is_asked_to_end

    def allows(self, state: ZygoteState) -> bool:
        """Tell whether there is memory for the zygote to stay, and set the next check."""
        zygote = self._processes.by_number[state.process]
        spare = self._services.kernel.spare_memory()
        if spare >= LEAST_SPARE:
            state.standby = Deadline.after(LOOKED_EVERY, DeadlineKind.LOOK, self._services.loop.now())
            zygote.status = STATUS
            return True
        self._services.emit(ZygoteNotKept(watcher=zygote.watcher, generation=state.generation, spare=spare))
        return False

    def youngest(self, states: Iterable[ZygoteState]) -> int:
        """Return the youngest generation that its zygote can return to, or 0."""
        return max((each.generation for each in states if each.standby and self.is_ready(each)), default=0)

    def recall(self, states: Iterable[ZygoteState], former: int, generation: int) -> None:
        """Let the zygote of a former generation, if it is on standby, fork the workers of this one."""
        for state in states:
            if state.generation == former and state.standby and self.is_ready(state):
                self.release(state)
                state.generation = self._processes.by_number[state.process].generation = generation

    def release(self, state: ZygoteState) -> None:
        """End the standby of a zygote."""
        zygote = self._processes.by_number.get(state.process)
        if state.standby and zygote is not None:
            zygote.status = ""
        state.standby = None
