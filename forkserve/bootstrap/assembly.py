"""The master and all its parts, joined.

Rules: the arguments of `assemble` have been created or taken over already; nothing is started here.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import forkserve
from forkserve.bootstrap.logprogram import LogProgram
from forkserve.config.load import ConfigSource
from forkserve.config.model import Config
from forkserve.control.routes import Routes
from forkserve.control.server import ControlServer
from forkserve.control.status.answers import StatusService
from forkserve.control.status.statsd import statsd_running
from forkserve.control.stream import EventHistory
from forkserve.errors import ConfigError
from forkserve.logwriter.own import own_outputs
from forkserve.master import Master
from forkserve.socketpool import SocketPool
from forkserve.supervision.auxiliaries.auxiliaries import AuxiliaryProcesses
from forkserve.supervision.auxiliaries.hookhosts import HookHosts
from forkserve.supervision.auxiliaries.sidecar import Sidecar
from forkserve.supervision.events.bus import EventBus
from forkserve.supervision.events.log import log_event
from forkserve.supervision.liveness.heartbeats import Heartbeats
from forkserve.supervision.metrics.idleness import IdleStop
from forkserve.supervision.metrics.limits import LimitsKeeper
from forkserve.supervision.os.daemon import Detached
from forkserve.supervision.os.loop import LIMIT, Loop
from forkserve.supervision.os.memory import settle_memory
from forkserve.supervision.os.pidfile import PidFile
from forkserve.supervision.os.signals import SignalQueue
from forkserve.supervision.processes.adopted import AdoptedProcesses
from forkserve.supervision.shutdown.systemd import tell_systemd
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.timers.memory import TimerMemory
from forkserve.unix.notifyfolder import NotifyFolder
from forkserve.unix.proctitle import set_title

__all__ = ["Assembly", "Base", "assemble", "mark", "new_bus", "new_loop", "program", "show_title"]

SETTLED_AFTER = 30.0
"""Seconds after which `-D` returns although something is not ready yet: it may never be, or be retried for ever."""


@dataclass(slots=True)
class Base:
    """What exists before the master; `background` and `pidfile` if requested.

    `command` is how this program was executed, without its arguments.
    """

    source: ConfigSource
    signals: SignalQueue
    pool: SocketPool
    bus: EventBus
    loop: Loop
    reports: NotifyFolder
    auxiliaries: AuxiliaryProcesses
    background: Detached | None = None
    pidfile: PidFile | None = None
    command: tuple[str, ...] = ()


@dataclass(slots=True)
class Assembly:
    """All parts of one master."""

    base: Base
    services: SpawnServices
    master: Master
    history: EventHistory
    routes: Routes
    status: StatusService
    heartbeats: Heartbeats
    keeper: LimitsKeeper
    idle: IdleStop
    hosts: HookHosts
    adopted: AdoptedProcesses
    control: ControlServer | None = None
    sidecars: list[Sidecar] = field(default_factory=list)
    log_program: LogProgram | None = None

    def close_log(self) -> None:
        """Let the last lines of the log be written, if a program does that."""
        if self.log_program is not None:
            self.log_program.close(self.master.supervisor.config.master.loglevel)

    def run(self) -> int:
        """Serve until everything is over; returns the exit code."""
        self.hosts.words = self._words_of_hosts
        settle_memory()
        self.heartbeats.begin()
        self.keeper.begin()
        self.idle.begin()
        background, loop = self.base.background, self.base.loop
        if background is not None:
            loop.watch(background.fileno(), selectors.EVENT_READ, lambda _events: background.relay())
            self.master.on_booted = background.settled
            loop.call_later(SETTLED_AFTER, background.settled)
        options = self.master.supervisor.config.master
        with statsd_running(self.master, options.statsd_host, options.statsd_prefix), self._timers_kept():
            return self.master.run()

    @contextlib.contextmanager
    def _timers_kept(self) -> Iterator[None]:
        """Record the runs of timers in a file, if one is configured."""
        supervisor, base = self.master.supervisor, self.base
        path = supervisor.config.master.timers_file
        if path is None:
            yield
            return
        memory = TimerMemory(
            path, lambda: [(each.name, each.timer) for each in supervisor.watchers], base.loop, base.bus.emit
        )
        base.auxiliaries.keep_running(memory)
        base.bus.subscribe(memory.on_event)
        with contextlib.closing(memory):
            yield

    def _words_of_hosts(self) -> tuple[str, ...]:
        options = self.master.supervisor.config.master
        words = ("--log-level", options.loglevel, "--log-output", options.logoutput)
        return words if self.control is None else (*words, "--control", str(self.control.path))


def assemble(config: Config, base: Base) -> Assembly:
    """Join the parts; the watchers of the configuration exist, and nothing of them runs."""
    bus, auxiliaries, reports = base.bus, base.auxiliaries, base.reports
    services = SpawnServices(
        base.loop,
        base.pool.fd,
        emit=bus.emit,
        has_slots=base.pool.has_slots,
        outputs=auxiliaries.outputs,
        on_spawned=auxiliaries.on_spawned,
        on_group_started=auxiliaries.on_group_started,
        on_group_ended=auxiliaries.on_group_ended,
        reports=lambda command: reports.open(command.credentials, changes_user=command.changes_user),
    )
    hosts = HookHosts(base.loop, bus.emit, auxiliaries.keep_running, auxiliaries.dismiss)
    services.call_hook, services.outlived = hosts.call, lambda: auxiliaries.outlived
    watchers = Supervisor(config, base.pool, services, inherited=dict(os.environ))
    auxiliaries.own_outputs = lambda: own_outputs(
        watchers.config.master.capture, os.environ, detached=base.background is not None
    )
    master = Master(watchers, base.loop, base.signals, auxiliaries=auxiliaries, source=base.source)
    master.upgrader.command = base.command
    services.hold, services.seal = master.reloader.hold, master.ordered_stop.seal
    services.is_known = lambda pid: pid in watchers.living or pid in auxiliaries.known_pids
    history = EventHistory(bus)
    heartbeats, keeper = Heartbeats(watchers, base.loop), LimitsKeeper(watchers, master.observatory)
    idle = IdleStop(watchers, master.observatory)
    for each in (master.observatory, heartbeats, keeper, idle, master.repairs):
        bus.subscribe(each.on_event)
    routes, status = Routes(master, history), StatusService(master)
    adopted = AdoptedProcesses(services.kernel, base.loop, master.reaper.ended, watchers.forget_ended_groups)
    return Assembly(base, services, master, history, routes, status, heartbeats, keeper, idle, hosts, adopted)


def new_bus() -> EventBus:
    """Return a bus whose first subscribers are the log and systemd."""
    bus = EventBus()
    bus.subscribe(log_event)
    bus.subscribe(tell_systemd)
    return bus


def new_loop() -> Loop:
    """Return a loop with the limit that the environment sets; raises ConfigError."""
    text = os.environ.get(LIMIT, "0")
    try:
        return Loop(limit=float(text))
    except ValueError:
        raise ConfigError(f"{LIMIT}={text}: expected seconds, such as 0.05") from None


def mark(reports: NotifyFolder) -> str:
    """Return the beginning of a variable that only our processes have, see `Guard`."""
    return f"NOTIFY_SOCKET={reports.prefix}"


def show_title(name: str | None, source: ConfigSource) -> None:
    """Set the process title, which shows which master this is."""
    set_title(f"forkserve: master [{name or source.description}]")


def program() -> str:
    """Return what runs, as the log names it."""
    return f"forkserve {forkserve.__version__}, Python {'.'.join(map(str, sys.version_info[:3]))}"
