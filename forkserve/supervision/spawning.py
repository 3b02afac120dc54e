"""Starts the process of one slot: words, outputs, fork, guard. What it is made of comes from SpawnServices.

Rules: what fails is raised, and nothing is left behind. What to do about it is the watcher's to decide. Nothing here
waits: whether the program runs is reported later (`os.spawn`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from forkserve.config.handover import Identity
from forkserve.config.model import WatcherOptions
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.command import FdFor, Handover, Outputs, ProcessTemplate
from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import Event
from forkserve.supervision.fdstore import StoredFd
from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.spawn import SpawnError, SpawnStage
from forkserve.supervision.process import EXEC_PATIENCE, Process
from forkserve.unix.home import enter
from forkserve.unix.notify import NotifySocket
from forkserve.unix.scoreboard import RecordHandle, Scoreboard

__all__ = ["Legacy", "Resources", "SpawnServices", "start"]


def _nothing_to_tell(_pgid: int, _signum: int = 0, _grace: float = 0.0) -> None:
    """Stand in for a guard that is not there."""


def _nobody_listens(_event: Event) -> None:
    """Drop an event, where nobody subscribes."""


@dataclass(slots=True)
class SpawnServices:
    """What watchers stand on; the composition root makes it, and a test may make a smaller one."""

    loop: Loop
    fd_for: FdFor
    emit: Callable[[Event], None] = _nobody_listens
    """Hands out an event."""
    outputs: Callable[[WatcherOptions, Identity], Outputs] = lambda _options, _identity: Outputs()
    """Opens where a process's output goes; the descriptors are the caller's to keep or to close."""
    on_spawned: Callable[[Outputs, Identity, int], None] = lambda _outputs, _identity, _pid: None
    """Called with the pid that writes to these outputs, or 0 when there is none."""
    on_group_started: Callable[[int, int, float], None] = _nothing_to_tell
    """Called with a process group that has begun, its stop signal and its grace in seconds."""
    on_group_ended: Callable[[int], None] = _nothing_to_tell
    """Called with a process group of which nothing is left."""
    reports: Callable[[ProcessTemplate], NotifySocket | None] = lambda _command: None
    """Opens where a process of a command reports to; raises OSError."""
    restore_notify: Callable[[int, str], NotifySocket] = NotifySocket.restore
    """Returns the notify socket of a descriptor and its address."""
    hold: Callable[[Process], bool] = lambda _process: False
    """Tells whether a process whose place another has taken must go on, since nobody else reads a queue yet."""
    seal: Callable[[str, tuple[int, ...]], None] = lambda _watcher, _queues: None
    """Lets nothing new into the queues of a watcher that stops for good, those that another reads excepted."""
    kernel: Kernel = field(default_factory=Kernel)
    random: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Resources:
    """What the master holds for one process: its record on the scoreboard, and the socket of its messages."""

    place: RecordHandle | None = None
    notify: NotifySocket | None = None

    def close(self) -> None:
        """Give both back; safe to call for what was never used."""
        try:
            if self.notify is not None:
                self.notify.close()
        finally:
            if self.place is not None:
                self.place.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy:
    """What a new process finds: its number, its generation, the board, and what its predecessors have stored."""

    number: int
    generation: int
    board: Scoreboard
    stored: tuple[StoredFd, ...] = ()


def start(command: ProcessTemplate, wid: int, services: SpawnServices, legacy: Legacy) -> tuple[Process, Resources]:
    """Request the process of a slot; raises ForkserveError or OSError with no process left.

    It gets a record of the watcher's board if it shares sockets.
    """
    options = command.options
    identity = Identity(options.name, wid)
    outputs = services.outputs(options, identity)
    place = notify = None
    try:
        notify = _open_notify(command, identity, services)
        place = legacy.board.take(legacy.generation) if command.sockets else None
        address = None if notify is None else notify.address
        spec = command.spec(wid, services.fd_for, outputs, Handover(place, address, legacy.stored))
        enter(os.environ)
        spawned = services.kernel.fork(spec)
    except BaseException:
        services.on_spawned(outputs, identity, 0)
        Resources(place, notify).close()
        raise
    # From here on there is a process, and nothing may hide it.
    with Barrier(services.emit, f"the outputs of {identity}"):
        services.on_spawned(outputs, identity, spawned.pid)
    with Barrier(services.emit, f"the guard of {identity}"):
        services.on_group_started(spawned.pid, options.stop_signal, options.graceful_timeout)
    now = services.loop.now()
    process = Process(
        number=legacy.number,
        watcher=options.name,
        wid=wid,
        generation=legacy.generation,
        pid=spawned.pid,
        started_at=now,
        argv=spec.argv,
        deadline=Deadline.after(EXEC_PATIENCE, DeadlineKind.EXEC, now),
        report=spawned.report,
        notify=-1 if notify is None else notify.fileno(),
        notify_address="" if notify is None else notify.address,
        queues=command.queues,
        record=-1 if place is None else place.index,
    )
    return process, Resources(place, notify)


def _open_notify(command: ProcessTemplate, identity: Identity, services: SpawnServices) -> NotifySocket | None:
    try:
        return services.reports(command)
    except OSError as error:
        text = f"cannot make a notify socket for {identity}: {error.strerror}"
        raise SpawnError(error.errno or 0, SpawnStage.DESCRIPTORS, text) from None
