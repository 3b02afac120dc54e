"""Channels to workers that may become zygotes: one for each, for the order and for its answer.

Rules: an answer counts only if the kernel confirms that it is from the worker's pid.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.lifecycle import ProcessState
from forkserve.supervision.os.forkchannel import ForkChannel
from forkserve.supervision.process import Process
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.start import Launch, SpawnServices

__all__ = ["Promotions"]


class Promotions:
    """The channels of one watcher, by the number of the process; `on_promoted` takes over a channel with an answer."""

    def __init__(self, services: SpawnServices, on_promoted: Callable[[Process, ForkChannel], None]) -> None:
        self._services = services
        self._on_promoted = on_promoted
        self._ours: dict[int, ForkChannel] = {}
        self._theirs: dict[int, socket.socket] = {}

    def offer(self, process: Process, command: ProcessTemplate, launch: Launch) -> Launch:
        """Return a launch with a channel; raises OSError."""
        ours, theirs = ForkChannel.pair()
        self._ours[process.number], self._theirs[process.number] = ours, theirs
        process.promotion = ours.fileno()
        return replace(launch, spec=command.promotable(launch.spec, theirs.fileno()))

    def handed_over(self, number: int) -> None:
        """Close the worker's end, which it has, or will not need."""
        theirs = self._theirs.pop(number, None)
        if theirs is not None:
            theirs.close()

    def order(self, process: Process) -> bool:
        """Order a worker to become a zygote when it has drained; False if it cannot be reached."""
        channel = self._ours.get(process.number)
        if channel is None:
            return False
        try:
            channel.promote()
        except OSError:
            return False
        self._listen(process)
        return True

    def _listen(self, process: Process) -> None:
        fd = self._ours[process.number].fileno()
        self._services.loop.watch(fd, selectors.EVENT_READ, partial(self._answered, process))

    def _answered(self, process: Process, _events: int) -> None:
        channel = self._ours[process.number]
        with Barrier(self._services.emit, f"the promotion of {process}"):
            try:
                answers = channel.take()
            except EOFError:  # it will be reaped
                self._services.loop.unwatch(channel.fileno())
                return
            if any(answer.pid == process.pid for answer in answers):
                self._services.loop.unwatch(channel.fileno())
                del self._ours[process.number]
                process.promotion = -1
                self._on_promoted(process, channel)

    def forget(self, process: Process) -> None:
        """Close the channel of a process that has ended."""
        self.handed_over(process.number)
        channel = self._ours.pop(process.number, None)
        if channel is not None:
            self._services.loop.unwatch(channel.fileno())
            channel.close()

    def restore(self, processes: Iterable[Process]) -> None:
        """Go on with channels that a former master held."""
        for process in processes:
            if process.promotion >= 0:
                self._ours[process.number] = ForkChannel.restore(process.promotion)
                if process.state is ProcessState.DRAINING:
                    self._listen(process)
