"""The two channels from a process: the report of its start, and its notify socket.

Rules: the owner decides what follows. The descriptors are data of the process; what is watched is derived from them.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import ProcessStarted
from forkserve.supervision.lifecycle import Effect, ProcessTrigger
from forkserve.supervision.os.spawn import SpawnRefusal
from forkserve.supervision.process import Process
from forkserve.supervision.spawning.start import Resources, SpawnServices
from forkserve.unix.notify import PORTION, Message

__all__ = ["ProcessChannels", "ProcessesOwner"]

FLOOD_PAUSE = 0.05
"""Seconds for which a process that floods its notify socket is ignored."""


class ProcessesOwner(Protocol):
    """Called with what happens to the processes; each call is an event with a barrier around it."""

    def on_started(self, process: Process) -> None:
        """Called when the program runs."""

    def on_said(self, process: Process, message: Message) -> None:
        """Called when a process has sent a message of sd_notify(3)."""

    def on_unstarted_end(self, process: Process) -> None:
        """Called when a process without a pid is to end."""

    def on_changed(self) -> None:
        """Called when something is soon due for one of them."""


class ProcessChannels:
    """Listens to the processes with these resources, by number."""

    def __init__(self, services: SpawnServices, owner: ProcessesOwner, resources: Mapping[int, Resources]) -> None:
        self._services = services
        self._owner = owner
        self._resources = resources

    def listen(self, process: Process) -> None:
        """Listen to a process on both of its channels, if it has them."""
        self.await_report(process)
        if process.deaf_until is None:
            self.hear_again(process)

    def await_report(self, process: Process) -> None:
        """Read the report of a start when it arrives."""
        if process.report >= 0:
            self._services.loop.watch(process.report, selectors.EVENT_READ, partial(self._reported, process))

    def hear_again(self, process: Process) -> None:
        """Listen again to a process that has flooded its socket."""
        process.deaf_until = None
        if process.notify >= 0:
            self._services.loop.watch(process.notify, selectors.EVENT_READ, partial(self._heard, process))

    def _reported(self, process: Process, _events: int = 0) -> None:
        with Barrier(self._services.emit, f"the report of {process}"):
            self.confirm(process)

    def confirm(self, process: Process) -> None:
        """Read the report of its start, if available: it runs, or it was refused and will be reaped.

        The pipe of a process killed before exec ends like that of a running program.
        """
        if process.report < 0:
            return
        outcome = self._services.kernel.outcome(process.report)
        if outcome is False:
            return
        process.folder = self._services.kernel.folder_of(process.report)
        self._close_report(process)
        if isinstance(outcome, SpawnRefusal):
            process.refusal = process.refusal or outcome
        elif process.refusal is None:
            self.has_started(process)

    def has_started(self, process: Process) -> None:
        """Note that the program of a process runs."""
        if Effect.ANNOUNCE_START in process.on(ProcessTrigger.STARTED, self._services.loop.now()):
            self._services.emit(ProcessStarted(**process.names(), argv=process.argv))
            self._owner.on_started(process)

    def _heard(self, process: Process, _events: int = 0) -> None:
        with Barrier(self._services.emit, f"a message of {process}"):
            self.confirm(process)  # exec comes before the first word, whichever we hear of first
            notify = self._resources[process.number].notify
            heard = 0
            for message in () if notify is None else notify.take():
                heard += 1
                with Barrier(self._services.emit, f"what {process} says"):
                    self._owner.on_said(process, message)
            if heard >= PORTION:
                self._services.loop.unwatch(process.notify)
                process.deaf_until = self._services.loop.now() + FLOOD_PAUSE

    def close(self, process: Process) -> None:
        """Stop listening to a process."""
        with Barrier(self._services.emit, f"the report of {process}"):
            self._close_report(process)
        if process.notify >= 0:
            self._services.loop.unwatch(process.notify)
        process.notify = -1
        process.deaf_until = None

    def _close_report(self, process: Process) -> None:
        report, process.report = process.report, -1
        if report >= 0:
            self._services.loop.unwatch(report)
            self._services.kernel.close(report)
