"""An ASGI exchange that leaves a line in the access log; the other kind pays nothing for it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from forkserve.asgi.exchange import Exchange
from forkserve.asgi.site import Transport
from forkserve.http.fields import Fields
from forkserve.http.line import RequestLine

__all__ = ["LoggedExchange"]


class LoggedExchange(Exchange):
    """An exchange that knows when it began."""

    __slots__ = ("begun", "client")
    access: ClassVar[Any]
    """The `forkserve.engine.access.AccessLog`, set by the backend."""

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        super().__init__(conn, line, fields)
        self.begun = time.monotonic() if self.access.timed else 0.0

    def note_scope(self, scope: dict[str, Any]) -> None:
        """Remember whom it is for."""
        super().note_scope(scope)
        self.client = scope["client"]

    def variables(self) -> dict[str, Any]:
        """Return what the log may tell besides."""
        return {}

    def note(self, status: int, size: int) -> None:
        """Leave the line."""
        prepared = getattr(self, "prepared", None)
        head = prepared.head if prepared is not None else b""
        address = self.client[0] if self.client is not None else ""
        self.access.write(address, self.line, self.fields, (status, size, self.begun, head), self.variables())
