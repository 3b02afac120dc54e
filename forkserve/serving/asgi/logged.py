"""ASGI exchanges that leave a line in the access log; the other kind pays nothing for it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from forkserve.serving.asgi.exchange import Exchange
from forkserve.serving.asgi.site import Transport
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["LoggedExchange", "TimedExchange"]


class LoggedExchange(Exchange):
    """An exchange for a format that tells of nothing that differs with each request."""

    __slots__ = ("address",)
    access: ClassVar[Any]
    """The `forkserve.serving.engine.access.AccessLog`, set by the backend."""

    def note_scope(self, scope: dict[str, Any]) -> None:
        """Remember whom it is for."""
        client = scope["client"]
        self.address = client[0] if client is not None else ""

    def note(self, status: int, size: int) -> None:
        """Leave the line."""
        self.access.write(self.address, self.line, self.fields, status, size)


class TimedExchange(LoggedExchange):
    """An exchange that knows when it began, and tells all of itself."""

    __slots__ = ("begun",)

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        self.begun = time.monotonic()
        super().__init__(conn, line, fields)

    def variables(self) -> dict[str, Any]:
        """Return what the log may tell besides."""
        return {}

    def note(self, status: int, size: int) -> None:
        """Leave the line."""
        prepared = getattr(self, "prepared", None)
        head = prepared.head if prepared is not None else b""
        more = (self.begun, head, self.variables())
        self.access.write(self.address, self.line, self.fields, status, size, more)
