"""The first start of a master.

Order matters. Signals are caught before anything else, so that none is lost. Sockets are bound before companions are
forked, so that a process without children reports a port in use. The master is complete before the guard is forked, and
that before anything is spawned that could outlive it. At the end everything is undone in reverse, and the sockets close
last: until then the kernel keeps every connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from forkserve import logs
from forkserve.bootstrap.adopting import Adoption, adopt
from forkserve.bootstrap.assembly import Assembly, Base, assemble, mark, new_bus, new_loop, program, show_title
from forkserve.bootstrap.logprogram import LogProgram
from forkserve.bootstrap.statepublisher import StatePublisher, place_of
from forkserve.bootstrap.upgrading import make_replaceable
from forkserve.config.load import ConfigSource
from forkserve.config.masteroptions import MasterOptions, OnMasterDeath
from forkserve.config.model import Config
from forkserve.config.sidecars import WantedSidecar, wanted_sidecars
from forkserve.control.place import default_path
from forkserve.control.server import ControlServer
from forkserve.socketpool import SocketPool
from forkserve.supervision.auxiliaries.auxiliaries import AuxiliaryProcesses
from forkserve.supervision.auxiliaries.sidecar import Sidecar, SocketFiles
from forkserve.supervision.events import ConfigWarned, SocketBound
from forkserve.supervision.keeper.takeover import ask_keeper, keeper_socket
from forkserve.supervision.os.daemon import Detached, detached
from forkserve.supervision.os.memory import settle_memory
from forkserve.supervision.os.pidfile import PidFile
from forkserve.supervision.os.signals import SIGNALS, SignalQueue
from forkserve.supervision.spawning.command import ProcessTemplate, mixed_readers
from forkserve.unix.fds import ensure_standard, raise_limit
from forkserve.unix.notify import take_listen_fds
from forkserve.unix.notifyfolder import NotifyFolder
from forkserve.unix.prctl import become_subreaper
from forkserve.unix.privileges import user_id
from forkserve.unix.socketstore import SocketStore

__all__ = ["run"]

log = logging.getLogger("forkserve.master")


def run(config: Config, source: ConfigSource, command: Sequence[str] = ()) -> int:
    """Run a configuration until it is stopped; returns the exit code.

    `command` is how this program was executed, without its arguments. Raises ForkserveError, with nothing left running
    and nothing left bound, for errors before the start.
    """
    handed_in = take_listen_fds()
    ensure_standard()
    raise_limit()
    options = config.master
    logs.set_up(
        options.loglevel,
        options.logoutput,
        patience=0.0,
        max_bytes=options.log_max_bytes,
        backups=options.log_backups,
    )
    if options.umask is not None:
        os.umask(options.umask)
    with contextlib.ExitStack() as stack:
        start = _Start(config, source, tuple(command), stack)
        adoption = start.adoption(handed_in)
        assembly = start.first(handed_in) if adoption is None else adoption.assembly
        stack.callback(assembly.close_log)
        try:
            return _run(start, assembly, adoption)
        except BaseException:
            if adoption is not None and not adoption.inheritance.is_done:
                stack.pop_all()  # its keeper has all of it still
            raise


def _run(start: _Start, assembly: Assembly, adoption: Adoption | None) -> int:
    options, base = start.config.master, assembly.base
    if options.loggerconfig is not None:
        assembly.log_program = LogProgram.begin(
            options.loggerconfig, options.loglevel, base.loop, base.bus.emit, base.auxiliaries
        )
    _greet(start.config, assembly)
    with _status(options, assembly), _control(options, start.source, assembly):
        make_replaceable(assembly)
        if adoption is None:
            settle_memory()  # the guard shares the pages that neither process writes to from here on
            base.auxiliaries.begin()
        _run_sidecars(options, assembly)
        publisher = StatePublisher(assembly)
        if adoption is not None:
            adoption.settle(publisher)
        return assembly.run()


@dataclass(slots=True)
class _Start:
    """A start in progress; `stack` closes in reverse what was created."""

    config: Config
    source: ConfigSource
    command: tuple[str, ...]
    stack: contextlib.ExitStack
    background: Detached | None = None
    asked_at: Path | None = None

    def adoption(self, handed_in: dict[str, int]) -> Adoption | None:
        """Ask for what a killed master has left; None if there is nothing. Raises BindError."""
        options = self.config.master
        asked_at = place_of(options, self.source)
        self.asked_at = asked_at if options.on_master_death is OnMasterDeath.SERVE else None
        inheritance = None if asked_at is None else ask_keeper(asked_at)
        if inheritance is None:
            return None
        self._detach()
        adoption = adopt(inheritance, self.config, self.source, self.command)
        if adoption is not None:
            for fd in handed_in.values():  # the queues are there already
                os.close(fd)
            self._stand_on(adoption.assembly.base)
        return adoption

    def _stand_on(self, base: Base) -> None:
        base.background = self.background
        base.pidfile = self._pidfile()
        become_subreaper()
        show_title(self.config.master.name, self.source)
        for each in (base.signals, base.pool, base.pidfile, base.loop, base.reports, base.auxiliaries):
            if each is not None:
                self.stack.callback(each.close)

    def _detach(self) -> None:
        options = self.config.master
        if not options.daemon or self.background is not None:
            return
        if options.logoutput == "-":
            log.warning("-D without --log-output: what is logged and printed is lost; give --log-output FILE")
        self.background = self.stack.enter_context(detached())

    def _pidfile(self) -> PidFile | None:
        path = self.config.master.pidfile
        return None if path is None else PidFile(path)

    def first(self, handed_in: dict[str, int]) -> Assembly:
        """Return a master that begins with nothing; raises ForkserveError."""
        assembly = assemble(self.config, self._base(handed_in))
        assembly.base.bus.subscribe(assembly.status.on_event)
        return assembly

    def _base(self, handed_in: dict[str, int]) -> Base:
        """Create the base of a master that begins with nothing."""
        stack, options = self.stack, self.config.master
        signals = SignalQueue(SIGNALS)
        stack.callback(signals.close)
        pool = SocketPool.open(self.config.sockets, handed_in, SocketStore(os.environ))
        stack.callback(pool.close)
        asked_at = None if self.asked_at is None else keeper_socket(self.asked_at)
        self._detach()
        pidfile = self._pidfile()
        if pidfile is not None:
            stack.callback(pidfile.close)
        loop = new_loop()
        stack.callback(loop.close)
        reports = NotifyFolder()
        stack.callback(reports.close)
        become_subreaper()
        show_title(options.name, self.source)
        bus = new_bus()
        auxiliaries = AuxiliaryProcesses(loop, bus.emit, mark=mark(reports), asked_at=asked_at)
        stack.callback(auxiliaries.close)
        base = Base(self.source, signals, pool, bus, loop, reports, auxiliaries, self.background, pidfile)
        base.command = self.command
        return base


@contextlib.contextmanager
def _status(options: MasterOptions, assembly: Assembly) -> Iterator[None]:
    """Answer probes and scrapes; raises BindError."""
    assembly.status.open(options.status_bind)
    with contextlib.closing(assembly.status):
        yield


@contextlib.contextmanager
def _control(options: MasterOptions, source: ConfigSource, assembly: Assembly) -> Iterator[None]:
    """Serve control; an unusable place stops the start only if it was named."""
    path = default_path(source.path) if options.control == "auto" else Path(options.control)
    if options.control == "none" or path is None:
        if options.control != "none":
            log.warning("no private folder can be written to: running without a control socket (--control PATH)")
        yield
        return
    assembly.control = ControlServer(path, assembly.base.loop, assembly.routes)
    log.info("control: %s", path)
    with contextlib.closing(assembly.control):
        yield


def _run_sidecars(options: MasterOptions, assembly: Assembly) -> None:
    """Start the programs beside the master that are requested and available."""
    control = None if assembly.control is None else assembly.control.path
    for wanted in wanted_sidecars(options, control):
        if control is None:
            log.warning("%s: not served without a control socket (--control PATH)", wanted.option)
            continue
        argv = (sys.executable, "-P", "-m", wanted.module, *wanted.words)
        sidecar = Sidecar(wanted.name, argv, assembly.base.loop, assembly.base.bus.emit, files=_files_of(wanted))
        assembly.sidecars.append(sidecar)
        assembly.master.keep_running(sidecar)


def _files_of(wanted: WantedSidecar) -> SocketFiles:
    owners = {os.geteuid()} | (set() if wanted.owner is None else {user_id(wanted.owner)})
    return SocketFiles(tuple(map(os.path.abspath, wanted.files)), tuple(owners))


def _scheme(command: ProcessTemplate) -> str:
    """Return the URL scheme of a worker of ours, "" for another program."""
    words = f"{command.options.cmd} {command.options.args}".replace("=", " ").split()
    return ("https://" if "--certfile" in words else "http://") if command.says_ready else ""


def _greet(config: Config, assembly: Assembly) -> None:
    log.info("%s, pid %d", program(), os.getpid())
    supervisor = assembly.master.supervisor
    mixed = mixed_readers((each.command for each in supervisor.watchers), config.sockets)
    for warning in (*config.warnings, *mixed):
        supervisor.emit(ConfigWarned(message=warning))
    schemes = {name: _scheme(each.command) for each in supervisor.watchers for name in each.command.sockets}
    for listener in supervisor.pool:
        scheme = "" if listener.address.startswith("unix:") else schemes.get(listener.name, "")
        supervisor.emit(SocketBound(socket=listener.name, address=scheme + listener.address))
