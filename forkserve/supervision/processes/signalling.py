"""Sends signals to the processes of one watcher: none to a reaped pid, and none that a hook forbids.

Rules: `processes` decides when a process is to stop, and what follows if it does not.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import HookVetoed, StopRequested
from forkserve.supervision.hooks.gate import HookGate
from forkserve.supervision.lifecycle import ProcessState
from forkserve.supervision.os.proc import birth_of
from forkserve.supervision.process import Process
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.wording import signal_name

__all__ = ["Signaller"]


class Signaller:
    """`by_number` are the processes; `changed` is called when one has a new deadline."""

    def __init__(
        self,
        services: SpawnServices,
        gate: HookGate,
        by_number: Mapping[int, Process],
        changed: Callable[[], None],
    ) -> None:
        self._services = services
        self._gate = gate
        self._by_number = by_number
        self._changed = changed

    def signal(self, processes: Iterable[Process], signum: int) -> int:
        """Send a signal to those alive; returns how many get it, unless a hook forbids it."""
        kernel = self._services.kernel
        living = [each for each in processes if each.is_alive and kernel.is_child(each.pid)]
        for process in living:
            self._ask_signal(process, signum, partial(self._signal_one, process.number, signum))
        return len(living)

    def signal_below(self, pids: Iterable[int], signum: int) -> int:
        """Send a signal to descendants of those processes, unless a hook forbids it; returns how many get it."""
        known = {pid: birth for pid in pids if (birth := birth_of(pid)) is not None}
        for pid, birth in known.items():
            self._gate.ask("before_signal", partial(self._signal_other, pid, birth, signum), pid=pid, signum=signum)
            self._gate.ask("after_signal", pid=pid, signum=signum)
        return len(known)

    def ask_to_stop(self, process: Process) -> None:
        """Send a process its stop signal once its hooks have allowed it; its grace begins then."""
        if not process.is_alive or not self._gate.is_concerned:
            self._send_stop(process)
            return
        process.unsent = process.stopping.signum
        timeout = process.stopping.timeout + self._gate.patience
        process.deadline = Deadline.after(timeout, DeadlineKind.STOP, self._services.loop.now())
        self._ask_signal(process, process.unsent, partial(self._may_stop, process.number))

    def ask_again(self) -> None:
        """Ask the hooks again about a stop that another program has asked about without getting an answer."""
        for process in tuple(self._by_number.values()):
            if process.unsent:
                self.ask_to_stop(process)

    def send_again(self, process: Process) -> None:
        """Send the signal that waited until the process had a pid."""
        if process.state is ProcessState.DRAINING:
            self.send(process, process.stopping.signum, group=process.stopping.group)
        elif process.state is ProcessState.KILLING:
            self.send(process, signal.SIGKILL, group=True)

    def send(self, process: Process, signum: int, *, group: bool) -> None:
        """Send a signal; a process that has not entered its own group yet gets it alone."""
        if not process.is_alive or not self._services.kernel.is_child(process.pid):
            return  # reaped: its number may be a stranger's
        reached = group and self._services.kernel.signal_group(process.pgid, signum)
        if not reached or process.pid != process.pgid:
            self._services.kernel.signal(process.pid, signum)

    def _signal_one(self, number: int, signum: int, consented: bool) -> None:
        process = self._by_number.get(number)
        if process is not None and process.is_alive and (consented or signum == signal.SIGKILL):
            self.send(process, signum, group=False)

    def _signal_other(self, pid: int, birth: int, signum: int, consented: bool) -> None:
        if birth_of(pid) == birth and (consented or signum == signal.SIGKILL):
            self._services.kernel.signal(pid, signum)

    def _ask_signal(self, process: Process, signum: int, then: Callable[[bool], None]) -> None:
        self._gate.ask("before_signal", then, pid=process.pid, signum=signum)
        self._gate.ask("after_signal", pid=process.pid, signum=signum)

    def _may_stop(self, number: int, consented: bool) -> None:
        process = self._by_number.get(number)
        if process is None or not process.unsent:
            return
        signum, process.unsent = process.unsent, 0
        if process.state is not ProcessState.DRAINING:
            return
        timeout = process.stopping.timeout  # first: whatever goes wrong below, it is killed in time
        process.deadline = Deadline.after(timeout, DeadlineKind.STOP, self._services.loop.now())
        self._changed()
        if consented or signum == signal.SIGKILL:
            self._send_stop(process)
            return
        reason = "hooks.before_signal said no"
        effect = f"{signal_name(signum)} is not sent to {process}, which is killed after its graceful_timeout"
        self._services.emit(HookVetoed(watcher=process.watcher, reason=reason, effect=effect))

    def _send_stop(self, process: Process) -> None:
        how = process.stopping
        self._services.emit(StopRequested(**process.names(), signal=signal_name(how.signum)))
        self.send(process, how.signum, group=how.group)
        # a process that was stopped by SIGSTOP or a terminal would never hear of it
        self.send(process, signal.SIGCONT, group=how.group)
