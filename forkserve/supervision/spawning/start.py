"""Starts the process of one slot: words, outputs, fork, guard. Its parts come from SpawnServices.

Rules: failures are raised, and nothing is left behind. The watcher decides what to do about them. Nothing here blocks:
whether the program runs is reported later (`os.spawn`).
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from forkserve.config.handover import ZYGOTE_WID, Identity
from forkserve.config.model import WatcherOptions
from forkserve.config.naming import identity_of
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import Event
from forkserve.supervision.hooks.call import CallHook, consent
from forkserve.supervision.os import wallclock
from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.spawn import SpawnError, SpawnSpec, SpawnStage
from forkserve.supervision.process import EXEC_PATIENCE, Process, Stopping
from forkserve.supervision.spawning.command import FdFor, ProcessTemplate
from forkserve.supervision.spawning.fdstore import StoredFd
from forkserve.supervision.spawning.handover import Handover, Outputs
from forkserve.unix.home import enter
from forkserve.unix.notify import NotifySocket
from forkserve.unix.scoreboard import RecordHandle, Scoreboard

__all__ = [
    "Launch",
    "Legacy",
    "Resources",
    "SpawnServices",
    "call_off",
    "execute",
    "has_begun",
    "prepare_worker",
    "prepare_zygote",
    "start",
]


def _nothing_to_tell(_pgid: int, _signum: int = 0, _grace: float = 0.0) -> None:
    """Stand in for a missing guard."""


def _nobody_listens(_event: Event) -> None:
    """Drop an event, if there is no subscriber."""


@dataclass(slots=True)
class SpawnServices:
    """The services that watchers need; the composition root makes them, and tests may make smaller ones."""

    loop: Loop
    fd_for: FdFor
    emit: Callable[[Event], None] = _nobody_listens
    """Emits an event."""
    outputs: Callable[[WatcherOptions, Identity], Outputs] = lambda _options, _identity: Outputs()
    """Opens the outputs of a process; the caller keeps or closes the descriptors."""
    on_spawned: Callable[[Outputs, Identity, int], None] = lambda _outputs, _identity, _pid: None
    """Called with the pid that writes to these outputs, or 0 if there is none."""
    on_group_started: Callable[[int, int, float], None] = _nothing_to_tell
    """Called with a process group that was started, its stop signal and its grace in seconds."""
    on_group_ended: Callable[[int], None] = _nothing_to_tell
    """Called with a process group of which nothing is left."""
    has_slots: Callable[[tuple[int, ...]], bool] = lambda _queues: False
    """Tells whether each slot has its own of these queues."""
    reports: Callable[[ProcessTemplate], NotifySocket | None] = lambda _command: None
    """Opens the notify socket for a process of a command; raises OSError."""
    restore_notify: Callable[[int, str], NotifySocket] = NotifySocket.restore
    """Returns the notify socket of a descriptor and its address."""
    is_known: Callable[[int], bool] = lambda _pid: False
    """Tells whether a pid is that of a process or a companion that was started before."""
    hold: Callable[[Process], bool] = lambda _process: False
    """Tells whether a replaced process must go on, since no other reads a queue yet."""
    seal: Callable[[str, tuple[int, ...]], None] = lambda _watcher, _queues: None
    """Closes the queues of a watcher that stops for good to new connections, except those that another reads."""
    outlived: Callable[[], bool] = lambda: False
    """Tells whether processes are to serve on when the master is killed."""
    call_hook: CallHook = consent
    """Asks a hook of a watcher."""
    kernel: Kernel = field(default_factory=Kernel)
    random: Callable[[], float] = random.random
    wall: Callable[[], float] = wallclock.time
    """Returns the time of day, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What the master holds for one process: its record on the scoreboard, and the socket of its messages."""

    place: RecordHandle | None = None
    notify: NotifySocket | None = None

    def close(self) -> None:
        """Release both; safe to call for what was never used."""
        try:
            if self.notify is not None:
                self.notify.close()
        finally:
            if self.place is not None:
                self.place.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy:
    """What a new process inherits: its number, its generation, the board, and what its predecessors have stored.

    `circus_wid` is the value of `$(circus.wid)`, which no other process of its watcher has. `own_queues` means that it
    reads the queue of its slot, although the sockets have one for all slots now.
    """

    number: int
    generation: int
    board: Scoreboard
    circus_wid: int
    stored: tuple[StoredFd, ...] = ()
    own_queues: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """What a start needs besides its process: the outputs, and what is executed or forked."""

    identity: Identity
    outputs: Outputs
    spec: SpawnSpec
    stopping: Stopping


def start(command: ProcessTemplate, wid: int, services: SpawnServices, legacy: Legacy) -> tuple[Process, Resources]:
    """Request the process of a slot; raises ForkserveError or OSError and leaves no process."""
    process, resources, launch = prepare_worker(command, wid, services, legacy)
    execute(process, resources, launch, services)
    return process, resources


def prepare_worker(
    command: ProcessTemplate, wid: int, services: SpawnServices, legacy: Legacy
) -> tuple[Process, Resources, Launch]:
    """Prepare what the process of a slot needs; raises ForkserveError or OSError, and leaves nothing.

    It gets a record of the watcher's board if it shares sockets. The next step is `execute`, or `has_begun` when a
    zygote has forked it, or `call_off`.
    """
    own = _has_own_queues(command, services, legacy)

    def fd_for(number: int, slot: int) -> int:
        return services.fd_for(number, slot if own else 1)

    def record() -> RecordHandle | None:
        return legacy.board.take(legacy.generation) if command.sockets else None

    return _prepare(command, wid, services, legacy, record=record, make=partial(command.spec, wid, fd_for))


def _has_own_queues(command: ProcessTemplate, services: SpawnServices, legacy: Legacy) -> bool:
    return legacy.own_queues or services.has_slots(command.queues)


def prepare_zygote(
    command: ProcessTemplate, services: SpawnServices, legacy: Legacy, channel: int
) -> tuple[Process, Resources, Launch]:
    """Prepare a zygote that gets its orders on `channel`; raises ForkserveError or OSError, as above.

    Call `execute` at once: its spec names descriptors that the caller must close.
    """
    make = partial(command.zygote_spec, channel)
    process, resources, launch = _prepare(command, ZYGOTE_WID, services, legacy, record=lambda: None, make=make)
    return replace(process, queues=(), own_queues=False), resources, launch


def _prepare(
    command: ProcessTemplate,
    wid: int,
    services: SpawnServices,
    legacy: Legacy,
    *,
    record: Callable[[], RecordHandle | None],
    make: Callable[[Outputs, Handover], SpawnSpec],
) -> tuple[Process, Resources, Launch]:
    options = command.options
    identity = identity_of(options, wid)
    outputs = services.outputs(options, identity)
    place = notify = None
    try:
        notify = _open_notify(command, identity, services)
        place = record()
        own = _has_own_queues(command, services, legacy)
        address = None if notify is None else notify.address
        spec = make(outputs, Handover(place, address, legacy.stored, own, legacy.circus_wid))
        if wid != ZYGOTE_WID and services.outlived():
            spec = replace(spec, death_signal=None)
    except BaseException:
        services.on_spawned(outputs, identity, 0)
        Resources(place, notify).close()
        raise
    launch, resources = Launch(identity, outputs, spec, Stopping.of(options)), Resources(place, notify)
    now = services.loop.now()
    process = _requested(launch, resources, legacy, queues=command.queues, own_queues=own, now=now)
    return process, resources, launch


def _requested(
    launch: Launch, resources: Resources, legacy: Legacy, *, queues: tuple[int, ...], own_queues: bool, now: float
) -> Process:
    """Return a process that has no pid yet."""
    place, notify = resources.place, resources.notify
    return Process(
        number=legacy.number,
        watcher=launch.identity.watcher,
        name=launch.identity.own,
        wid=launch.identity.wid,
        circus_wid=legacy.circus_wid,
        generation=legacy.generation,
        pid=0,
        started_at=now,
        argv=launch.spec.argv,
        notify=-1 if notify is None else notify.fileno(),
        notify_address="" if notify is None else notify.address,
        queues=queues,
        own_queues=own_queues,
        record=-1 if place is None else place.index,
    )


def execute(process: Process, resources: Resources, launch: Launch, services: SpawnServices) -> None:
    """Start to execute the program of a process; raises ForkserveError or OSError, and leaves nothing."""
    try:
        enter(os.environ)
        spawned = services.kernel.fork(launch.spec)
    except BaseException:
        call_off(launch, services)
        resources.close()
        raise
    try:
        process.report = spawned.report
        process.deadline = Deadline.after(EXEC_PATIENCE, DeadlineKind.EXEC, services.loop.now())
        has_begun(process, spawned.pid, launch, services)
    except BaseException:  # a bug; nothing else would ever end it
        services.kernel.signal(spawned.pid, signal.SIGKILL)
        raise


def has_begun(process: Process, pid: int, launch: Launch, services: SpawnServices) -> None:
    """Note that there is a process; no later failure may hide it."""
    process.pid, process.started_at = pid, services.loop.now()
    with Barrier(services.emit, f"the outputs of {launch.identity}"):
        services.on_spawned(launch.outputs, launch.identity, pid)
    with Barrier(services.emit, f"the guard of {launch.identity}"):
        services.on_group_started(pid, launch.stopping.signum, launch.stopping.timeout)


def call_off(launch: Launch, services: SpawnServices) -> None:
    """Release the outputs of a process that will not be started."""
    services.on_spawned(launch.outputs, launch.identity, 0)


def _open_notify(command: ProcessTemplate, identity: Identity, services: SpawnServices) -> NotifySocket | None:
    try:
        return services.reports(command)
    except OSError as error:
        text = f"cannot make a notify socket for {identity}: {error.strerror}"
        raise SpawnError(error.errno or 0, SpawnStage.DESCRIPTORS, text) from None
