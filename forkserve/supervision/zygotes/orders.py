"""Orders of workers from the zygotes of one watcher, one at a time for each, and the answers.

Rules: a pid that a zygote names is noted first of all, since nothing names it again. A pid that is known already, or is
no child of the master, is not believed.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Collection, Iterable

from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import DeadlineMissed
from forkserve.supervision.lifecycle import ProcessState
from forkserve.supervision.os.forkchannel import ForkAnswer
from forkserve.supervision.process import EXEC_PATIENCE, Process
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.spawning.start import SpawnServices, has_begun
from forkserve.supervision.zygotes.channels import ZygoteChannels
from forkserve.supervision.zygotes.state import ZygoteState
from forkserve.supervision.zygotes.waiting import WaitingWorkers

__all__ = ["ForkOrders"]


class ForkOrders:
    """Orders the workers that wait; `channels` lead to the zygotes."""

    def __init__(self, services: SpawnServices, processes: Processes, waiting: WaitingWorkers) -> None:
        self.channels = ZygoteChannels(services, self.receive)
        self._services = services
        self._processes = processes
        self._waiting = waiting
        self._reaped: Collection[int] = ()

    def send(self, state: ZygoteState) -> None:
        """Order the next worker, if the zygote is ready and idle."""
        zygote = self._processes.by_number.get(state.process)
        channel = self.channels.of(state)
        if state.asked or not state.waiting or channel is None or zygote is None:
            return
        if zygote.state is not ProcessState.READY:
            return
        number = state.waiting[0]
        launch = self._waiting.launches[number]
        try:
            channel.ask(number, launch.spec)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                return  # it will be reaped
            state.waiting.remove(number)
            self._waiting.refuse(self._processes.by_number[number], error.strerror or str(error), error.errno or 0)
            self.send(state)
            return
        state.asked = number
        state.deadline = Deadline.after(EXEC_PATIENCE, DeadlineKind.EXEC, self._services.loop.now())

    def hear(self, states: Iterable[ZygoteState], reaped: Collection[int]) -> None:
        """Read the answers that have arrived, before anything is said of pids that were reaped."""
        self._reaped = reaped
        for state in states:
            if state.asked:
                self.receive(state)
        self._reaped = ()

    def receive(self, state: ZygoteState) -> None:
        """Act on the answers of a zygote that have arrived."""
        for answer in self.channels.take(state):
            self._answered(state, answer)

    def _answered(self, state: ZygoteState, answer: ForkAnswer) -> None:
        process = self._processes.by_number.get(answer.number) if answer.number == state.asked else None
        if answer.pid and process is None and self._is_new(answer.pid):  # of a request that was given up
            self._services.kernel.signal(answer.pid, signal.SIGKILL)
        if process is None or (answer.pid and not self._is_new(answer.pid)):
            return
        process.pid = answer.pid  # first of all: nobody says it again
        state.waiting.remove(process.number)
        state.asked, state.deadline = 0, None
        if answer.pid:
            self._begun(process)
        else:
            self._waiting.refuse(process, answer.error, answer.errno)
        self.send(state)

    def _begun(self, process: Process) -> None:
        """Note that a worker runs."""
        if process.number in self._waiting.launches:
            has_begun(process, process.pid, self._waiting.take(process), self._services)
        self._processes.has_begun(process)

    def _is_new(self, pid: int) -> bool:
        if self._services.is_known(pid):
            return False
        return pid in self._reaped or self._services.kernel.is_child(pid)

    def find_lost(self, states: Iterable[ZygoteState]) -> None:
        """Go on with the workers whose answer came, and was lost in a bug."""
        waiting = {number for state in states for number in state.waiting}
        for process in self._processes:
            if not process.forked_by or process.number in waiting or process.exit or process.refusal:
                continue
            if not process.pid:
                self._waiting.refuse(process, "a bug in forkserve; its log says more")
            elif self._processes.find(process.pid) is None:
                self._begun(process)

    def unanswered(self, state: ZygoteState) -> None:
        """Kill a zygote that does not fork; it is started again when it has been reaped.

        What it forks may hang or die at once, so the same is not ordered again.
        """
        zygote, asked = (self._processes.by_number.get(number) for number in (state.process, state.asked))
        what = f"did not fork within {EXEC_PATIENCE:g} s"
        if asked is not None:
            state.waiting.remove(asked.number)
            self._waiting.refuse(asked, f"got no process: its zygote {what}", errno.ETIMEDOUT)
        state.asked = 0
        if zygote is not None:
            self._services.emit(DeadlineMissed(**zygote.names(), what=what))
            self._processes.end_now(zygote, by_kill=True)
