"""How a new master takes over from one that was killed (`on_master_death = serve`).

Theory of operation. The keeper supplies state and descriptors. They are read as after an upgrade, processes are watched
by pidfd, and the keeper of this master gets everything. Only then the former keeper lets go, and ends what is not in
the state. The configuration in force is the former one until a reload has read what differs in ours.

Rules: nothing is done about a process before `settle`, and a start that fails before leaves everything to the keeper.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from forkserve.bootstrap.assembly import Assembly, mark
from forkserve.bootstrap.statefile import Data, StateError, decode, read
from forkserve.bootstrap.statepublisher import StatePublisher, place_of
from forkserve.config.load import ConfigSource
from forkserve.config.masteroptions import OnMasterDeath
from forkserve.config.model import Config
from forkserve.errors import ControlError
from forkserve.supervision.events import MasterSucceeded
from forkserve.supervision.keeper.takeover import Inheritance, ask_keeper
from forkserve.supervision.os.guard import marked
from forkserve.supervision.os.proc import birth_of, sharing
from forkserve.supervision.os.signals import SIGNALS, SignalQueue
from forkserve.supervision.state.keptstate import addresses_in, groups_in, pids_in, to_resume
from forkserve.supervision.state.watchers import config_to_data
from forkserve.supervision.watcher import Watcher
from forkserve.unix.descriptors import renumbered
from forkserve.unix.notify import Message, notify, parse

__all__ = ["Adoption", "adopt", "end_orphans"]

log = logging.getLogger("forkserve.master")

PATIENCE = 5.0
"""Seconds for each step of telling our keeper."""


@dataclass(slots=True)
class Adoption:
    """A master that is about to take over an inheritance; `pidfds` are those of the living processes."""

    inheritance: Inheritance
    data: Data
    assembly: Assembly
    config: Config
    pidfds: dict[int, int]

    def settle(self, publisher: StatePublisher) -> None:
        """Take everything over: from now on all of it ends with us. Raises OSError if the keeper has died."""
        base, known = self.assembly.base, groups_in(self.data)
        decided, deciding = os.pipe2(os.O_CLOEXEC)
        serves_on = self.config.master.on_master_death is OnMasterDeath.SERVE
        base.auxiliaries.asked_at = self.inheritance.listener if serves_on else None
        base.auxiliaries.begin(armed_by=decided)
        publisher.write(patience=PATIENCE)
        ending = (self.inheritance.groups - known) | self._unknown()
        self.inheritance.done(ending, decided, deciding)
        if not serves_on:
            self.inheritance.abolish()
        os.close(decided)
        os.close(deciding)
        base.pool.update_store()
        for pid, pidfd in self.pidfds.items():
            self.assembly.adopted.take(pid, pidfd)
        lost = sorted(pids_in(self.data) - self.pidfds.keys())
        self.assembly.adopted.miss(lost)
        processes = len(self.assembly.master.supervisor.processes()) - len(lost)
        told = MasterSucceeded(master=self.inheritance.master, processes=processes, lost=len(lost), ending=len(ending))
        base.bus.emit(told)
        for watcher in self.assembly.master.supervisor.watchers:
            self._note_said(watcher)
        self.assembly.master.repairs.begin()
        if self.assembly.master.is_booted:
            notify("READY=1")
        self._read_what_differs()

    def _unknown(self) -> frozenset[int]:
        """Return the groups of processes that the former master had started when it was killed, and had told nobody of.

        They have an address of its notify sockets in their environment that no other has, or, since our workers write
        their titles over that, the memory of a scoreboard. What a process that we know has started is its child.
        """
        addresses = {f"NOTIFY_SOCKET={address}" for address in addresses_in(self.data)}
        marks = marked(mark(self.assembly.base.reports))
        boards = {each.processes.board.fd for each in self.assembly.master.supervisor.watchers} - {-1}
        found = [each for each, variable in marks if variable not in addresses] + sharing(boards)
        known = pids_in(self.data) | self.assembly.base.auxiliaries.pids | {self.inheritance.keeper}
        return frozenset(each.pid for each in found if each.pid == each.session and not {each.pid, each.parent} & known)

    def _note_said(self, watcher: Watcher) -> None:
        """Process messages that its processes have sent without a master, or that the former one has not recorded."""
        for process in (each for each in watcher.processes if each.pid in self.pidfds):
            if process.pid in self.inheritance.ready:
                watcher.processes.channels.confirm(process)
                process.said_ready = watcher.command.says_ready
                watcher.population.ready(process)
            for text in self.inheritance.said.get(process.notify, ()):
                watcher.processes.channels.confirm(process)
                watcher.population.on_said(process, Message(parse(text.encode()), []))

    def _read_what_differs(self) -> None:
        supervisor = self.assembly.master.supervisor
        before, wanted = (config_to_data(each) for each in (supervisor.in_force, self.config))
        if any(before[part] != wanted[part] for part in ("sockets", "watchers")):
            self.assembly.base.loop.call_later(0.0, self._reload)

    def _reload(self) -> None:
        with contextlib.suppress(ControlError):  # it stops
            self.assembly.master.reload_config()


def adopt(inheritance: Inheritance, config: Config, source: ConfigSource, command: Sequence[str]) -> Adoption | None:
    """Return a master that can take over an inheritance; None if it cannot be read: then all of it has been ended."""
    try:
        data = to_resume(decode(inheritance.state), time.monotonic())
        with contextlib.closing(SignalQueue(())) as nothing:  # in vain first, so that no descriptor is lost on the way
            read(renumbered(data, {}), nothing)
    except StateError as error:
        log.error(
            "pid %d, which was killed, has left what cannot be taken over: %s; ending it", inheritance.master, error
        )
        inheritance.end_all()
        return None
    data = renumbered(data, inheritance.numbers)
    assembly, _ = read(data, SignalQueue(SIGNALS))
    base, supervisor = assembly.base, assembly.master.supervisor
    base.source = assembly.master.reloader.source = source
    base.command = assembly.master.upgrader.command = tuple(command)
    supervisor.config = replace(supervisor.config, master=config.master)
    return Adoption(inheritance, data, assembly, config, dict(_living(data)))


def end_orphans(config: Config, source: ConfigSource) -> str:
    """End what a killed master has left, and return what was done; raises ForkserveError, also while a master runs."""
    asked_at = place_of(config.master, source)
    inheritance = None if asked_at is None else ask_keeper(asked_at)
    if inheritance is None:
        return "a killed master has left nothing"
    inheritance.end_all()
    return f"what the killed master, pid {inheritance.master}, has left has ended"


def _living(data: Data) -> Sequence[tuple[int, int]]:
    """Return a pidfd for each process that is still the one in the state."""
    found: list[tuple[int, int]] = []
    for pid in pids_in(data):
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            is_same = birth_of(pid) == data["started"].get(str(pid)) is not None
            if is_same and not select.select((pidfd,), (), (), 0)[0]:
                found.append((pid, pidfd))
            else:
                os.close(pidfd)
    return found
