"""The channels to the zygotes of one watcher, by descriptor: listened to, passed on at a promotion, closed.

Rules: `orders` decides what an answer means. A channel whose zygote has ended stays until that is reaped.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from functools import partial

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.os.forkchannel import ForkAnswer, ForkChannel
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.zygotes.state import ZygoteState

__all__ = ["ZygoteChannels"]


class ZygoteChannels:
    """`on_readable` is called with the state of a zygote that has sent something."""

    def __init__(self, services: SpawnServices, on_readable: Callable[[ZygoteState], None]) -> None:
        self._services = services
        self._on_readable = on_readable
        self._channels: dict[int, ForkChannel] = {}

    def of(self, state: ZygoteState) -> ForkChannel | None:
        """Return the channel to a zygote, None if there is none."""
        return self._channels.get(state.channel)

    def listen(self, state: ZygoteState, channel: ForkChannel) -> None:
        """Add the channel of a zygote, and listen to it."""
        state.channel = channel.fileno()
        self._channels[state.channel] = channel
        self._services.loop.watch(state.channel, selectors.EVENT_READ, partial(self._readable, state))

    def restore(self, state: ZygoteState) -> None:
        """Listen again to a zygote that a former master has listened to."""
        if state.channel >= 0:
            self.listen(state, ForkChannel.restore(state.channel))

    def hand_on(self, former: ZygoteState, state: ZygoteState) -> None:
        """Give the channel of one state, which gets another zygote, to the state that keeps the former zygote."""
        channel = self._channels.pop(former.channel, None)
        if channel is not None:
            self._services.loop.unwatch(former.channel)
            self.listen(state, channel)

    def _readable(self, state: ZygoteState, _events: int) -> None:
        with Barrier(self._services.emit, f"an answer of the zygote of generation {state.generation}"):
            self._on_readable(state)

    def take(self, state: ZygoteState) -> list[ForkAnswer]:
        """Return the answers that have arrived."""
        channel = self.of(state)
        if channel is None:
            return []
        try:
            return channel.take()
        except EOFError:  # it will be reaped
            self._services.loop.unwatch(state.channel)
            return []

    def hush(self, state: ZygoteState) -> None:
        """Make a worker end that has not sent its pid by now: nothing would know of it, see `ForkChannel.hush`."""
        channel = self.of(state)
        if channel is not None:
            channel.hush()

    def drop(self, state: ZygoteState) -> None:
        """Close the channel of a zygote; raises OSError."""
        channel = self._channels.pop(state.channel, None)
        if channel is not None:
            self._services.loop.unwatch(state.channel)
            channel.close()
        state.channel = -1
