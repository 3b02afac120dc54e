"""WSGI exchanges that leave a line in the access log; the other kind pays nothing for it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from forkserve.gateway.transport import Transport
from forkserve.http.fields import Fields
from forkserve.http.line import RequestLine
from forkserve.wsgi import Exchange

__all__ = ["LoggedExchange", "TimedExchange"]


class LoggedExchange(Exchange):
    """An exchange for a format that tells of no duration."""

    __slots__ = ()
    access: ClassVar[Any]
    """The `forkserve.engine.access.AccessLog`, set by the backend."""

    def note(self, status: int, size: int, begun: float = 0.0) -> None:
        """Leave the line."""
        prepared = self.prepared
        head = prepared.head if prepared is not None else b""
        environ = self.environ
        self.access.write(environ["REMOTE_ADDR"], self.line, self.fields, (status, size, begun, head), environ)


class TimedExchange(LoggedExchange):
    """An exchange that knows when it began."""

    __slots__ = ("begun",)

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        super().__init__(conn, line, fields)
        self.begun = time.monotonic()

    def note(self, status: int, size: int, begun: float = 0.0) -> None:
        """Leave the line."""
        super().note(status, size, self.begun)
