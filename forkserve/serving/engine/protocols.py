"""What the parts of the engine ask of each other and of a backend.

Rules: a part names its neighbours above it only by these, so imports within the engine point one way: connection,
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
    """Whether it may wait for a body that the client holds back, and is started at its head then."""

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
        """Keep the body in a file from now on, if it is not whole. Raises Refusal where there is none."""

    def shed(self) -> None:
        """Drop what has come and end, where it takes the bytes of its connection itself (`Connection.receive`)."""

    def end(self, how: End) -> bool:
        """End it before its response is whole, as the table in `ends` says.

        Returns False where the application goes on: it learns of the end from its connection.
        """


class _Finished:
    """In place of an exchange while its last bytes are queued."""

    starts_at_head = defers_body = False
    in_memory = 0

    def body(self, data: bytes) -> None:
        """Drop what the application did not read."""

    def body_end(self) -> None:
        """Nothing waits for it."""

    def body_held(self) -> None:
        """Nobody asks for it."""

    def spill(self) -> None:
        """Nothing to keep."""

    def shed(self) -> None:
        """Nothing to drop."""

    def end(self, how: End) -> bool:
        """It has ended, and its connection is not to be had: a client that breaks the rest of its body is lost."""
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
        """Go on with an exchange that is parked: its client has read, or has gone."""

    def notify(self, exchange: Any) -> None:
        """Called when a running exchange was given the end of its body, or was lost: it may wait for that."""

    def interrupt(self, exchange: Any) -> bool:
        """End an exchange that takes too long; False when it cannot be ended, so that the worker has to be replaced."""


class Leftover(Protocol):
    """Bytes of a client that the application has not taken, though the connection is closed."""

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
    """Changes whenever a response that has begun goes on."""
    idle_deadline: float
    """The deadline of a connection that becomes idle in this turn."""
    http_limits: HttpLimits
    timeouts: Timeouts
    """Both effective: infinite where there is no limit."""
    tick: float
    """Seconds between two looks at deadlines."""
    lock: AbstractContextManager[Any]
    epoll: select.epoll
    leftovers: MutableSet[Leftover]
    """What outlives its connection, to be counted as long as somebody holds it."""

    def later(self, conn: Any) -> None:
        """Have the loop go on with a connection whose exchange has ended; may be called from a thread."""

    def pump(self, conn: Any) -> None:
        """Wait for the next event of this connection and serve it, while the application keeps the loop."""


class EngineLoop(ConnectionOwner, Protocol):
    """What the other parts need of the loop."""

    handlers: dict[int, Callable[[], None]]
    """By descriptor, what is called when one that is no connection's is ready."""

    def sweep_by(self, instant: float) -> None:
        """Have the next sweep no later than this."""
