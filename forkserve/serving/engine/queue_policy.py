"""How a worker takes connections from the queues that it may share with siblings: the strategy of an acceptor."""

from __future__ import annotations

import select
from collections.abc import Callable, MutableSequence, Sized
from typing import Any, Protocol

from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.phases import READABLE
from forkserve.serving.engine.protocols import EngineLoop
from forkserve.unix.scoreboard import RECORD, Field

__all__ = ["TURN", "UNSEEN", "AcceptAll", "QueuePolicy", "Queues"]

TURN = int(Field.TURN)
UNSEEN: MutableSequence[float] | memoryview[float] = [0.0] * RECORD
"""A record that is never read, for a worker without a board: cheaper than a check each time."""


class Queues(Protocol):
    """What a policy needs of the acceptor."""

    loop: EngineLoop
    listenings: tuple[Listening, ...]
    draining: bool
    on_hold: bool

    @property
    def held(self) -> Sized:
        """The connections that are open."""

    def accept(self, listening: Listening, limit: int = ...) -> None:
        """Accept at most this many connections from a listener's queue, as far as there is room."""

    def watch(self, listening: Listening) -> None:
        """Register for arrivals with epoll, as the policy says."""

    def obey(self, order: int) -> None:
        """Obey the master: accept nothing for now, or accept again."""


class QueuePolicy(Protocol):
    """Whether and how much to accept when connections wait."""

    turn_clock: Any
    """Where the driver writes, at index TURN, when a turn began, and negative, when it ended."""
    unsettled: int
    """Turns until `rebalance` has something to do; 0 if nothing has changed."""

    def events(self) -> int:
        """Return the epoll events for a listener; called again for each that is watched again."""

    def on_arrival(self, listening: Listening) -> None:
        """Called when connections wait in a queue."""

    def on_close(self) -> None:
        """Called when a connection was closed."""

    def on_drain(self) -> None:
        """Called when draining begins."""

    def on_fork(self) -> None:
        """Called in a process that the application forked, which takes no part any more."""

    def rebalance(self) -> None:
        """Called at the end of a turn in which `unsettled` is not 0."""

    def close(self) -> None:
        """Close what the policy has opened."""


class AcceptAll:
    """For a worker that sees no siblings; of several on one queue the kernel wakes one (EPOLLEXCLUSIVE, Linux 4.5)."""

    turn_clock = UNSEEN
    unsettled = 0

    def __init__(self, accept: Callable[[Listening], None]) -> None:
        self.on_arrival = accept

    def events(self) -> int:
        """Return the same always."""
        return READABLE | select.EPOLLEXCLUSIVE

    def on_close(self) -> None:
        """Nothing depends on it."""

    def on_drain(self) -> None:
        """Nobody is to be told."""

    def on_fork(self) -> None:
        """Nothing is shared."""

    def rebalance(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing was opened."""
