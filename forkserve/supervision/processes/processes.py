"""The processes of one watcher, and the groups that they leave behind: kept, listened to, stopped, and reaped.

Theory of operation. `start` forks and returns; the process's report says whether its program runs, and its notify
socket what it says. `channels` watches both and calls the owner, a watcher. An exit is recorded as soon as waitpid(2)
has returned it, before anything is done about any exit: from then on nothing is sent to that pid, whatever fails
afterwards. All deadlines are data of the processes; `next_instant` serves the watcher's one timer.

Rules: the owner decides what follows from an event. State is plain data; sockets and callbacks are derived from it.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator, Set
from dataclasses import replace
from itertools import count

from forkserve.config.handover import ZYGOTE_WID
from forkserve.errors import ForkserveError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import Deadline, DeadlineKind, earliest
from forkserve.supervision.events import DeadlineMissed, MainPidChanged
from forkserve.supervision.figures import WatcherFigures
from forkserve.supervision.hooks.gate import HookGate
from forkserve.supervision.lifecycle import Effect, ProcessState, ProcessTrigger
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import SpawnRefusal, SpawnStage
from forkserve.supervision.process import Process, Stopping, lateness
from forkserve.supervision.processes.channels import ProcessChannels, ProcessesOwner
from forkserve.supervision.processes.orphangroups import OrphanedGroups
from forkserve.supervision.processes.pacing import EndingPace
from forkserve.supervision.processes.signalling import Signaller
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.fdstore import FdStore
from forkserve.supervision.spawning.start import Launch, Legacy, Resources, SpawnServices, execute, start
from forkserve.unix.counters import PageReading
from forkserve.unix.scoreboard import Order, Scoreboard
from forkserve.wording import reason_in

__all__ = ["Processes"]

ABORT_PATIENCE = 10.0
"""Seconds that a process has to end after SIGABRT, which may write a core."""

LEAVING = 1.0
"""Seconds in which a process that was told to stop has stopped accepting, even if it does not say so."""

LAST_ARRIVALS = 0.25
"""Seconds in which handshakes in progress end, after a queue gets no new connections."""


class Processes:
    """All that are alive or were told to end, by number; `groups` are what ended ones have left."""

    def __init__(self, services: SpawnServices, owner: ProcessesOwner, gate: HookGate) -> None:
        self.by_number: dict[int, Process] = {}
        self.groups = OrphanedGroups(services)
        self.made = 0
        self._pace = EndingPace()
        self.board = Scoreboard()
        self.store = FdStore()
        self.figures = WatcherFigures()
        self._by_pid: dict[int, Process] = {}
        self._resources: dict[int, Resources] = {}
        self._services = services
        self._owner = owner
        self.channels = ProcessChannels(services, owner, self._resources)
        self.signaller = Signaller(services, gate, self.by_number, self.changed)

    def __iter__(self) -> Iterator[Process]:
        """Iterate over the processes, oldest first; they may be removed meanwhile."""
        return iter(tuple(self.by_number.values()))

    def __len__(self) -> int:
        return len(self.by_number)

    @property
    def workers(self) -> tuple[Process, ...]:
        """All except zygotes, oldest first: these are counted, measured against limits and signalled."""
        return tuple(each for each in self if not each.is_zygote)

    @property
    def pids(self) -> frozenset[int]:
        """The pids that are alive: children of the master that have not been reaped."""
        return frozenset(self._by_pid)

    def has_any(self, pids: Set[int]) -> bool:
        """Tell whether one of the pids is that of a living process."""
        return not pids.isdisjoint(self._by_pid)

    def find(self, pid: int) -> Process | None:
        """Return the living process with a pid."""
        return self._by_pid.get(pid)

    def start(self, command: ProcessTemplate, wid: int, generation: int, *, own_queues: bool = False) -> Process:
        """Request a process; raises ForkserveError or OSError and leaves none."""
        legacy = replace(self.legacy(wid, generation), own_queues=own_queues)
        process, resources = start(command, wid, self._services, legacy)
        try:
            self.keep(process, resources)
        except BaseException:  # a bug; nothing else would ever end it
            self._services.kernel.signal(process.pid, signal.SIGKILL)
            raise
        return process

    def legacy(self, wid: int, generation: int) -> Legacy:
        """Return what the next process of a slot, or with ZYGOTE_WID the next zygote, inherits."""
        self.made += 1
        stored = () if wid == ZYGOTE_WID else self.store.handed_out(wid)
        return Legacy(
            number=self.made, generation=generation, board=self.board, circus_wid=self._circus_wid(wid), stored=stored
        )

    def _circus_wid(self, wid: int) -> int:
        """Return the `$(circus.wid)` of the next process of a slot: its number, unless another process has that.

        The successor of a process that still runs must not have its ports and files, so it gets a number above all
        slots, as in Circus, where they go up to twice the number of processes.
        """
        taken = {each.circus_wid or each.wid for each in self.workers}
        if wid == ZYGOTE_WID or wid not in taken:
            return wid
        above = wid + max(each.wid for each in self.workers)
        return above if above not in taken else next(each for each in count(1) if each not in taken)

    def execute(self, process: Process, launch: Launch) -> None:
        """Execute a process that a zygote was to fork; if that fails it ends as one that never began."""
        try:
            execute(process, self._resources[process.number], launch, self._services)
        except (ForkserveError, OSError) as error:
            number = getattr(error, "number", None) or getattr(error, "errno", None) or 0
            process.refusal = SpawnRefusal(number, SpawnStage.FORK, reason_in(error))
            self.changed()
            return
        self._by_pid[process.pid] = process
        with Barrier(self._services.emit, f"listening to {process}"):
            self.channels.await_report(process)
        self.signaller.send_again(process)

    def has_begun(self, process: Process) -> None:
        """Note that a zygote has forked a process, whose program runs already."""
        self._by_pid[process.pid] = process
        self.channels.has_started(process)
        self.signaller.send_again(process)

    def promoted(self, process: Process) -> bool:
        """Note that a worker which was told to stop has become a zygote; False if it must be killed."""
        if process.state is not ProcessState.DRAINING:
            return False
        self._step(process, ProcessTrigger.PROMOTED)
        process.wid, process.age_at, process.warm = ZYGOTE_WID, None, False
        process.queues, process.own_queues = (), False
        with Barrier(self._services.emit, f"the record of {process} on the scoreboard"):
            resources = self._resources[process.number]
            self._resources[process.number] = replace(resources, place=None)
            process.record = -1
            if resources.place is not None:
                resources.place.release()
        return True

    def changed(self) -> None:
        """Note that something is due for a process without an event."""
        self._owner.on_changed()

    def keep(self, process: Process, resources: Resources) -> None:
        """Add a process that was started, and listen to it."""
        self.by_number[process.number] = process
        self._resources[process.number] = resources
        if process.is_alive:
            self._by_pid[process.pid] = process
        with Barrier(self._services.emit, f"listening to {process}"):  # the report is read at its deadline then
            self.channels.listen(process)

    def become_ready(self, process: Process) -> bool:
        """Note that it serves; True if it did not before."""
        return Effect.ANNOUNCE in self._step(process, ProcessTrigger.READY)

    def stop(self, process: Process, stopping: Stopping) -> None:
        """Ask it to stop; it is killed if it does not in time.

        The last reader of a queue goes on for a moment in which the queue gets nothing new, and takes what waits there.
        """
        process.stopping = stopping
        if process.is_ready and process.end_at is None and self._reads_alone(process):
            self.order(process, Order.FINISH)
            process.end_at = self._services.loop.now() + LAST_ARRIVALS
            self.changed()
            return
        self._end(process, by_kill=False)

    def _reads_alone(self, process: Process) -> bool:
        sharing = (each for each in self if each is not process and each.wid == process.wid and each.own_queues)
        return process.own_queues and all(each.is_asked_to_end for each in sharing if each.is_ready)

    def kill_all(self) -> None:
        """Kill all processes, and what others have left."""
        for process in self:
            self._end(process, by_kill=True)
        self.groups.kill_all()

    def _end(self, process: Process, *, by_kill: bool) -> None:
        """Send the signal now, or a moment later if many are ended at once: the kernel may take long for a signal."""
        now = self._services.loop.now()
        if self._pace.admits(now):
            self.end_now(process, by_kill=by_kill)
        elif by_kill or process.state not in (ProcessState.DRAINING, ProcessState.KILLING):
            process.end_at, process.end_by_kill = now, by_kill or process.end_by_kill

    def end_now(self, process: Process, *, by_kill: bool) -> None:
        """Send a process its stop signal, or SIGKILL."""
        process.end_at, process.end_by_kill = None, False
        if process.is_ready and process.said_ready and not by_kill:
            process.leaves_by = self._services.loop.now() + LEAVING
        self._step(process, ProcessTrigger.KILL if by_kill else ProcessTrigger.STOP)
        if process.pid == 0:
            self._owner.on_unstarted_end(process)

    def order(self, process: Process, wanted: Order) -> None:
        """Write the order of a process on the scoreboard; the process reads it when told to stop, or when the bell
        rings.
        """
        held = self._resources.get(process.number)
        if held is not None and held.place is not None:
            held.place.order(wanted)

    def finish(self) -> None:
        """Order all to take what waits in their queues before they stop, and close what they have stored."""
        self.store.close()
        for process in self:
            self.order(process, Order.FINISH)

    def takes_part(self, process: Process) -> bool:
        """Tell whether a process has claimed its record on the scoreboard."""
        return process.record >= 0 and self.board.takes_part(process.record)

    def hold(self, process: Process, *, wanted: bool) -> None:
        """Order a process to accept nothing for now, or to accept again, when the board's bell rings."""
        process.held = wanted
        self.changed()
        self.order(process, Order.HOLD if wanted else Order.ACCEPT)

    def record(self, exit_: Exit) -> Process | None:
        """Note that a pid has been reaped, before anything is done about it; returns the process."""
        process = self._by_pid.pop(exit_.pid, None)
        if process is None:
            return None
        process.exit = exit_
        if not self._goes_on(process):
            return process
        process.exit = None
        return None

    def lost(self) -> list[Process]:
        """Record the ends that a bug has kept from being recorded: what is no longer a child was reaped."""
        found = [each for each in self if each.is_alive and not self._services.kernel.is_child(each.pid)]
        for process in found:
            self._by_pid.pop(process.pid, None)
            process.exit = Exit(process.pid, None, None)
        return found

    def claim(self, process: Process, pid: int) -> str:
        """Note that a process will go on as another, its child (MAINPID=); returns why not, or ""."""
        if pid == process.pid:
            process.main_pid = 0
        elif pid in self._by_pid or not self._services.kernel.is_of(pid, f"NOTIFY_SOCKET={process.notify_address}"):
            return f"says MAINPID={pid}, which it has not started"
        else:
            process.main_pid = pid
        return ""

    def _goes_on(self, process: Process) -> bool:
        """Put the process that a reaped one has named in its place, if that is alive and has become a child of the
        master.
        """
        pid, process.main_pid = process.main_pid, 0
        if not pid or process.is_asked_to_end or not self._services.kernel.is_child(pid):
            return False
        self._services.emit(MainPidChanged(**process.names(), main_pid=pid))
        process.group, process.pid = process.pgid, pid
        self._by_pid[pid] = process
        return True

    def bury(self, process: Process, stopping: Stopping) -> None:
        """Forget a reaped process, and start to end what it has left in its group."""
        now = self._services.loop.now()
        killed = process.is_asked_to_end and process.exit is not None and process.exit.signum == signal.SIGKILL
        self.by_number.pop(process.number, None)
        process.on(ProcessTrigger.EXITED, now)
        process.end_at = process.age_at = None
        self._release(process)
        if process.pid:
            self.groups.add(process, stopping, killed=killed)

    def forget(self, process: Process) -> None:
        """Forget a reaped process that a bug has kept from being buried; what it left is ended in the last round."""
        self.by_number.pop(process.number, None)
        self._release(process)
        if process.pid:
            self._services.on_group_ended(process.pgid)

    def _release(self, process: Process) -> None:
        self.channels.close(process)
        with Barrier(self._services.emit, f"the counters of {process}"):
            self.count(process)
        self.figures.forget(process.number)
        process.record = -1
        # siblings share the board's memory and bell: the slot must not pay for what one of them does to it
        with Barrier(self._services.emit, f"the record of {process} on the scoreboard"):
            self._resources.pop(process.number, Resources()).close()

    def count(self, process: Process) -> PageReading | None:
        """Add what a process has counted to the totals of its generation; returns the reading, if there is one."""
        if process.record < 0:
            return None
        reading = self.board.page(process.record)
        now = self._services.loop.now()
        self.figures.take(process.number, process.generation, reading, begun=process.started_at, now=now)
        return reading

    @property
    def next_instant(self) -> float | None:
        """The first instant at which something is due for any of them."""
        return earliest((*(each.next_instant for each in self.by_number.values()), self.groups.next_instant))

    def miss(self, process: Process, deadline: Deadline) -> None:
        """Kill a process that has missed its deadline."""
        if deadline.kind is DeadlineKind.EXEC:
            self.channels.confirm(process)
            if process.state is not ProcessState.REQUESTED:
                return
            text = f"cannot {SpawnStage.EXECUTE.value} {process.argv[0]!r}: not done within {deadline.timeout:g} s"
            process.refusal = process.refusal or SpawnRefusal(errno.ETIMEDOUT, SpawnStage.EXECUTE, text)
        if Effect.TELL_LATE in self._step(process, ProcessTrigger.DEADLINE):
            why = f": {process.probe_reason}" if process.probe_reason and deadline.kind is DeadlineKind.READY else ""
            self._services.emit(DeadlineMissed(**process.names(), what=f"{lateness(deadline)}{why}"))

    def miss_watchdog(self, process: Process) -> None:
        """End a process that stops sending WATCHDOG=1, or says that it is stuck, by SIGABRT, as systemd does."""
        process.watchdog_at = None
        if process.is_ready:
            what = f"sent no WATCHDOG=1 for {process.watchdog:g} s (watchdog), or has said that it is stuck"
            self._services.emit(DeadlineMissed(**process.names(), what=what))
            self.stop(process, Stopping(signal.SIGABRT, group=False, timeout=ABORT_PATIENCE))

    def close(self) -> None:
        """Release what is held for all, when nothing of it runs any more."""
        self.board.close()
        self.store.close()

    def _step(self, process: Process, event: ProcessTrigger) -> tuple[Effect, ...]:
        effects = process.on(event, self._services.loop.now())
        if Effect.SEND_STOP in effects:
            self.signaller.ask_to_stop(process)
        if Effect.SEND_KILL in effects:
            self.signaller.send(process, signal.SIGKILL, group=True)
        return effects
