"""What all exchanges of one serving share, and what an exchange needs of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from forkserve.serving.http.response import Responder
from forkserve.serving.transport import Transport as Sending

__all__ = ["Application", "Disconnected", "Message", "AsgiServingContext", "Task", "AsgiTransport"]

Message = dict[str, Any]
"""An ASGI message: a dictionary with a `type`."""
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
Task = asyncio.Task[None]


class Disconnected(OSError):
    """The connection is closed, by either side: nothing can be sent (ASGI 3, since version 2.4 of its HTTP and
    WebSocket part)."""


class AsgiTransport(Sending, Protocol):
    """What an exchange needs of its connection; `forkserve.serving.engine.connection.Connection` is one."""

    sock: Any
    exchange: Any
    ends: tuple[Any, Any] | None
    unheard: int
    receive: Callable[[bytes], None] | None

    @property
    def half_closed(self) -> bool: ...
    def drop(self, data: bytes) -> bool: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def be_patient(self) -> None: ...
    def leave(self, rest: Any) -> None: ...
    def take_over(self, receive: Callable[[bytes], None]) -> bytes: ...


@dataclass(slots=True)
class AsgiServingContext:
    """The application and what its exchanges have in common.

    `state` is what the lifespan has left, copied into each scope; `scope` makes a request's scope: `http_scope`, or the
    same in C. `keep` is False once connections are to be closed. `sockets` are the open WebSockets, notified when
    serving ends; `leaving` is True when little time is left, so that tasks that wait for a client's end are notified;
    `dismissed` are exchanges that are notified before. `logged` is True if exchanges have lines in an access log,
    `noted` if they do or are counted, `scoped` if they look at their scope, for the log or for an id. `begun` are the
    exchanges that are told in the next turn of the loop that their applications wait.
    """

    app: Application
    responder: Responder
    loop: asyncio.AbstractEventLoop
    state: dict[str, Any]
    scope: Callable[..., dict[str, Any]]
    keep: bool = True
    leaving: bool = False
    dismissed: set[Any] = field(default_factory=set)
    logged: bool = False
    scoped: bool = False
    noted: bool = False
    sockets: set[Any] = field(default_factory=set)
    begun: list[Any] = field(default_factory=list)

    def look_later(self, exchange: Any) -> None:
        """Call `exchange.suspended` when the step of the task that runs now is over."""
        if not self.begun:
            self.loop.call_soon(self._look)
        self.begun.append(exchange)

    def _look(self) -> None:
        begun, self.begun = self.begun, []
        for each in begun:
            each.suspended()
