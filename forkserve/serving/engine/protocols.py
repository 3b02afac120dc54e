"""What the parts of the engine need of each other and of a backend.

Rules: a part knows the parts above it only by these protocols, so imports within the engine point one way: connection,
connections, acceptor, upkeep, driver.
"""

from __future__ import annotations

import select
from collections.abc import Callable, MutableSet
from contextlib import AbstractContextManager
from typing import Any, Protocol

from forkserve.config.serving import HttpLimits, Timeouts
from forkserve.serving.counted import RequestCounter
from forkserve.serving.ends import End

__all__ = ["FINISHED", "Exchange", "EngineLoop", "ConnectionOwner", "Leftover", "Runner"]


class Exchange(Protocol):
    """One request and its response, as the engine sees it."""

    starts_at_head: bool
    """Whether to start it at the request's head."""
    defers_body: bool
    """Whether it may wait for a body that the client holds back, and so is started at its head."""

    def body(self, data: bytes) -> None:
        """Take a piece of the request's body."""

    def body_end(self) -> None:
        """Called when the request's body is whole."""

    def body_held(self) -> None:
        """Called when the client sent `Expect: 100-continue` and is waiting."""

    @property
    def in_memory(self) -> int:
        """Bytes of the request's body that are in memory."""

    def spill(self) -> None:
        """Keep the body in a file from now on, if it is not whole. Raises Refusal if there is none."""

    def shed(self) -> None:
        """Drop what has arrived and end, if it reads the bytes of its connection itself (`Connection.receive`)."""

    def end(self, how: End) -> bool:
        """End it before its response is whole, as the table in `ends` says.

        Returns False if the application goes on: it learns of the end from its connection.
        """


class _Finished:
    """In place of an exchange while its last bytes are queued."""

    starts_at_head = defers_body = False
    in_memory = 0

    def body(self, data: bytes) -> None:
        """Drop what the application did not read."""

    def body_end(self) -> None:
        """Ignore it."""

    def body_held(self) -> None:
        """Ignore it."""

    def spill(self) -> None:
        """Do nothing."""

    def shed(self) -> None:
        """Do nothing."""

    def end(self, how: End) -> bool:
        """Return False: it has ended, but its connection is still in use; a client that breaks off its body is lost."""
        return False


FINISHED: Exchange = _Finished()


class Runner(Protocol):
    """How a backend runs exchanges."""

    lock: AbstractContextManager[Any]
    """Guards the queue of a connection; a real lock only where threads write."""
    wakes: bool
    """Whether exchanges may end while the loop waits."""

    def start(self, exchange: Any) -> None:
        """Run an exchange."""

    def resume(self, exchange: Any) -> None:
        """Resume a parked exchange: its client has read, or has left."""

    def notify(self, exchange: Any) -> None:
        """Called when a running exchange got the end of its body, or was lost: it may wait for that."""

    def interrupt(self, exchange: Any) -> bool:
        """Interrupt an exchange that takes too long; False if that is impossible, so that the worker must be
        replaced.
        """


class Leftover(Protocol):
    """Bytes of a client that the application has not taken, although the connection is closed."""

    @property
    def in_memory(self) -> int:
        """How many they are."""

    def drop(self) -> None:
        """Drop them."""


class ConnectionOwner(Protocol):
    """What a connection needs of the loop that serves it."""

    counter: RequestCounter

    now: float
    """When the turn of the loop began (monotonic)."""
    moved: float
    """Changes whenever a response that has begun makes progress."""
    idle_deadline: float
    """The deadline of a connection that becomes idle in this turn."""
    http_limits: HttpLimits
    timeouts: Timeouts
    """Both effective: infinite for no limit."""
    tick: float
    """Seconds between two checks of deadlines."""
    lock: AbstractContextManager[Any]
    epoll: select.epoll
    leftovers: MutableSet[Leftover]
    """What outlives its connection, counted as long as it is held."""

    def later(self, conn: Any) -> None:
        """Let the loop continue a connection whose exchange has ended; may be called from a thread."""

    def pump(self, conn: Any) -> None:
        """Wait for the next event of this connection and handle it, while the application blocks the loop."""


class EngineLoop(ConnectionOwner, Protocol):
    """What the other parts need of the loop."""

    handlers: dict[int, Callable[[], None]]
    """By descriptor, the handler to call when one that is not a connection is ready."""

    def sweep_by(self, instant: float) -> None:
        """Schedule the next sweep no later than this."""
