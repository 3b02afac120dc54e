"""Starts the process of one slot: words, outputs, fork, guard, and the first deadline.

Rules: what fails is raised, and nothing is left behind. What to do about it is the watcher's to decide.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from forkserve.config.handover import Identity
from forkserve.config.model import WatcherOptions
from forkserve.errors import ForkserveError
from forkserve.supervision.command import Command, FdsFor, Outputs
from forkserve.supervision.lifecycle import Policy
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.spawn import SpawnError, SpawnSpec, Stage, spawn
from forkserve.supervision.process import Process, Stopping
from forkserve.unix.home import enter
from forkserve.unix.notify import NotifySocket
from forkserve.unix.scoreboard import Scoreboard

__all__ = ["Ground", "policy_of", "start", "stopping_of"]

log = logging.getLogger("forkserve.watcher")


def _nothing_to_tell(_pgid: int, _signum: int = 0, _grace: float = 0.0) -> None:
    """Stand in for a guard that is not there."""


@dataclass(slots=True)
class Ground:
    """What watchers stand on; the composition root makes it, and a test may make a smaller one."""

    loop: Loop
    fds_for: FdsFor
    outputs: Callable[[WatcherOptions, Identity], Outputs] = lambda _options, _identity: Outputs()
    """Opens where a process's output goes; the descriptors are the caller's to keep or to close."""
    bound: Callable[[Outputs, Identity, int], None] = lambda _outputs, _identity, _pid: None
    """Told of the pid that writes to these outputs, or 0 when it was not started."""
    began: Callable[[int, int, float], None] = _nothing_to_tell
    ended: Callable[[int], None] = _nothing_to_tell
    reports: Callable[[Command], NotifySocket | None] = lambda _command: None
    """Opens where a process of a command reports to; raises OSError."""
    start: Callable[[SpawnSpec], int] = spawn
    random: Callable[[], float] = random.random


def stopping_of(options: WatcherOptions) -> Stopping:
    """Return how the processes of a watcher are asked to stop."""
    return Stopping(options.stop_signal, options.stop_children, options.graceful_timeout)


def policy_of(options: WatcherOptions) -> Policy:
    """Return what a watcher wants done about a death."""
    return Policy(options.respawn, options.max_retry, options.backoff, options.backoff_max)


def start(command: Command, wid: int, ground: Ground, *, generation: int, board: Scoreboard) -> Process:
    """Start the process of a slot; raises ForkserveError or OSError with no process left.

    It gets a record of the watcher's board if it shares sockets.
    """
    options = command.options
    identity = Identity(options.name, wid)
    outputs = ground.outputs(options, identity)
    place = reports = None
    try:
        reports = _open_reports(command, identity, ground)
        place = board.take(generation) if command.sockets else None
        address = None if reports is None else reports.address
        spec = command.spec(wid, ground.fds_for, outputs, place, address)
        enter(os.environ)
        pid = ground.start(spec)
    except (ForkserveError, OSError):
        ground.bound(outputs, identity, 0)
        if reports is not None:
            reports.close()
        if place is not None:
            place.release()
        raise
    ground.bound(outputs, identity, pid)
    ground.began(pid, options.stop_signal, options.graceful_timeout)
    process = Process(identity, pid, generation=generation, loop=ground.loop, place=place, reports=reports)
    log.info("%s started: %s", process, " ".join(spec.argv))
    return process


def _open_reports(command: Command, identity: Identity, ground: Ground) -> NotifySocket | None:
    try:
        return ground.reports(command)
    except OSError as error:
        text = f"cannot make a notify socket for {identity}: {error.strerror}"
        raise SpawnError(error.errno or 0, Stage.DESCRIPTORS, text) from None
