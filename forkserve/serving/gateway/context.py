"""What the exchanges of one serving of a WSGI application share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from forkserve.serving.gateway.forwarding import WsgiForwarding
from forkserve.serving.http.response import Responder

__all__ = ["WsgiApplication", "WsgiServingContext"]

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiServingContext:
    """What all exchanges of one serving share.

    `wait(conn, until)` blocks the caller until `until()` is true, and raises OSError if the client leaves; if `parks`
    is true, an exchange whose client reads slowly returns instead. `keep` is False once connections are to be closed;
    `logged` means that responses go to the access log, `noted` that they do or are counted.
    """

    __slots__ = ("app", "body_in_memory", "forwarding", "keep", "logged", "noted", "parks", "responder", "wait")

    def __init__(
        self,
        app: WsgiApplication,
        responder: Responder,
        *,
        wait: Callable[[Any, Callable[[], bool]], None],
        parks: bool,
        body_in_memory: int,
        forwarding: WsgiForwarding | None = None,
    ) -> None:
        self.app = app
        self.responder = responder
        self.wait = wait
        self.parks = parks
        self.body_in_memory = body_in_memory
        self.forwarding = forwarding
        self.keep = True
        self.logged = False
        self.noted = False

    def keep_connections(self, wanted: bool) -> None:
        """Set whether responses keep their connections from now on."""
        self.keep = wanted
