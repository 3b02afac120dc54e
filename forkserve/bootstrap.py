"""Makes everything of its options and joins it: the only place that knows all parts of the master.

Order matters. Signals are caught before anything else, so that none is lost. Sockets are bound before companions are
forked, so that a port in use is said by a process without children. The master is in place before anything is spawned.
At the end it goes back in reverse, and the sockets close last: until then the kernel keeps every connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import sys
from collections.abc import Iterator
from pathlib import Path

import forkserve
from forkserve import logs
from forkserve.config.load import ConfigSource
from forkserve.config.model import Config, MasterOptions
from forkserve.config.sidecars import wanted_sidecars
from forkserve.control.place import default_path
from forkserve.control.routes import Routes
from forkserve.control.server import ControlServer
from forkserve.control.status import StatusService
from forkserve.control.stream import EventHistory
from forkserve.errors import ConfigError
from forkserve.master import Master
from forkserve.socketpool import SocketPool
from forkserve.supervision.auxiliaries import AuxiliaryProcesses
from forkserve.supervision.command import mixed_readers
from forkserve.supervision.eventbus import EventBus
from forkserve.supervision.eventlog import log_event
from forkserve.supervision.events import SocketBound, Warned
from forkserve.supervision.heartbeats import Heartbeats
from forkserve.supervision.metrics.limits import LimitsKeeper
from forkserve.supervision.os.daemon import detached
from forkserve.supervision.os.loop import LIMIT, Loop
from forkserve.supervision.os.memory import settle_memory
from forkserve.supervision.os.pidfile import PidFile
from forkserve.supervision.os.signals import SIGNALS, SignalQueue
from forkserve.supervision.sidecar import Sidecar
from forkserve.supervision.spawning import SpawnServices
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.systemd import tell_systemd
from forkserve.unix.fds import ensure_standard, raise_limit
from forkserve.unix.notify import take_listen_fds
from forkserve.unix.notifyfolder import NotifyFolder
from forkserve.unix.prctl import become_subreaper
from forkserve.unix.proctitle import set_title

__all__ = ["run"]

log = logging.getLogger("forkserve.master")

SETTLED_AFTER = 30.0
"""Seconds after which `-D` returns though something is not ready yet, since some may never be, or be tried for ever."""


def run(config: Config, source: ConfigSource) -> int:
    """Run a configuration until it is told to stop; returns the exit code.

    Raises ForkserveError, with nothing left running and nothing left bound, for what is wrong before the start.
    """
    handed_in = take_listen_fds()
    ensure_standard()
    raise_limit()
    options = config.master
    logs.set_up(options.loglevel, options.logoutput, patience=0.0)
    if options.umask is not None:
        os.umask(options.umask)
    with contextlib.ExitStack() as stack:
        signals = SignalQueue(SIGNALS)
        stack.callback(signals.close)
        pool = SocketPool.open(config.sockets, handed_in)
        stack.callback(pool.close)
        if options.daemon and options.logoutput == "-":
            log.warning("-D without --log-output: what is logged and printed is lost; give --log-output FILE")
        background = stack.enter_context(detached()) if options.daemon else None
        if options.pidfile is not None:
            stack.callback(PidFile(options.pidfile).close)
        with _master(config, source, pool, signals) as (bus, master):
            history = EventHistory(bus)
            _greet(config, master)
            bus.subscribe(master.observatory.on_event)
            heartbeats = Heartbeats(master.supervisor, master.loop)
            bus.subscribe(heartbeats.on_event)
            heartbeats.begin()
            keeper = LimitsKeeper(master.supervisor, master.observatory)
            bus.subscribe(keeper.on_event)
            keeper.begin()
            with (
                _status(options, bus, master),
                _control(options, source, Routes(master, history)) as control,
            ):
                settle_memory()
                _run_sidecars(options, control, master)
                if background is not None:
                    loop = master.loop
                    loop.watch(background.fileno(), selectors.EVENT_READ, lambda _events: background.relay())
                    master.on_booted = background.settled
                    loop.call_later(SETTLED_AFTER, background.settled)
                return master.run()


@contextlib.contextmanager
def _master(
    config: Config, source: ConfigSource, pool: SocketPool, signals: SignalQueue
) -> Iterator[tuple[EventBus, Master]]:
    """Make the loop, what stands on it, and the master; close them in reverse."""
    with contextlib.ExitStack() as stack:
        bus = EventBus()
        bus.subscribe(log_event)
        bus.subscribe(tell_systemd)
        loop = Loop(limit=_loop_limit())
        stack.callback(loop.close)
        reports = NotifyFolder()
        stack.callback(reports.close)
        become_subreaper()
        set_title(_title(config.master, source))
        auxiliaries = AuxiliaryProcesses(loop, bus.emit, mark=f"NOTIFY_SOCKET={reports.prefix}")
        stack.callback(auxiliaries.close)
        services = SpawnServices(
            loop,
            pool.fd,
            emit=bus.emit,
            outputs=auxiliaries.outputs,
            on_spawned=auxiliaries.on_spawned,
            on_group_started=auxiliaries.on_group_started,
            on_group_ended=auxiliaries.on_group_ended,
            reports=lambda command: reports.open(command.credentials, changes_user=command.changes_user),
        )
        watchers = Supervisor(config, pool, services, inherited=dict(os.environ))
        master = Master(watchers, loop, signals, auxiliaries=auxiliaries, source=source)
        services.hold, services.seal = master.reloader.hold, master.seal
        services.is_known = lambda pid: pid in watchers.living or pid in auxiliaries.pids
        yield bus, master


@contextlib.contextmanager
def _status(options: MasterOptions, bus: EventBus, master: Master) -> Iterator[None]:
    """Answer probes and scrapes; raises BindError."""
    status = StatusService(master)
    status.open(options.status_bind)
    bus.subscribe(status.on_event)
    with contextlib.closing(status):
        yield


@contextlib.contextmanager
def _control(options: MasterOptions, source: ConfigSource, routes: Routes) -> Iterator[Path | None]:
    """Serve control at the path that is handed out; an unusable place stops the start only when it was named."""
    path = default_path(source.path) if options.control == "auto" else Path(options.control)
    if options.control == "none" or path is None:
        if options.control != "none":
            log.warning("no private folder can be written to: running without a control socket (--control PATH)")
        yield None
        return
    server = ControlServer(path, routes.loop, routes)
    log.info("control: %s", path)
    with contextlib.closing(server):
        yield path


def _run_sidecars(options: MasterOptions, control: Path | None, master: Master) -> None:
    """Start the programs beside the master that are asked for and can be had."""
    for sidecar in wanted_sidecars(options, control):
        if control is None:
            log.warning("%s: not served without a control socket (--control PATH)", sidecar.option)
            continue
        argv = (sys.executable, "-P", "-m", sidecar.module, *sidecar.words)
        master.keep_running(Sidecar(sidecar.name, argv, master.loop, master.supervisor.emit))


def _loop_limit() -> float:
    text = os.environ.get(LIMIT, "0")
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{LIMIT}={text}: expected seconds, such as 0.05") from None


def _title(options: MasterOptions, source: ConfigSource) -> str:
    return f"forkserve: master [{options.name or source.description}]"


def _greet(config: Config, master: Master) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    log.info("forkserve %s, Python %s, pid %d", forkserve.__version__, version, os.getpid())
    supervisor = master.supervisor
    mixed = mixed_readers((each.command for each in supervisor.watchers), config.sockets)
    for warning in (*config.warnings, *mixed):
        supervisor.emit(Warned(message=warning))
    speak_http = {name for each in supervisor.watchers if each.command.says_ready for name in each.command.sockets}
    for listener in supervisor.pool:
        scheme = "http://" if listener.name in speak_http and not listener.address.startswith("unix:") else ""
        supervisor.emit(SocketBound(socket=listener.name, address=scheme + listener.address))
