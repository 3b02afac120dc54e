"""WSGI exchanges that leave a line in the access log; the other kind pays nothing for it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.transport import Transport
from forkserve.wsgi import Exchange

__all__ = ["LoggedExchange", "TimedExchange"]


class LoggedExchange(Exchange):
    """An exchange for a format that tells of nothing that differs with each request."""

    __slots__ = ()
    access: ClassVar[Any]
    """The `forkserve.serving.engine.access.AccessLog`, set by the backend."""

    def note(self, status: int, size: int) -> None:
        """Leave the line."""
        address = self.environ.get("REMOTE_ADDR", "")
        self.access.write(address if type(address) is str else str(address), self.line, self.fields, status, size)


class TimedExchange(LoggedExchange):
    """An exchange that knows when it began, and tells all of itself."""

    __slots__ = ("begun",)

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        self.begun = time.monotonic()
        super().__init__(conn, line, fields)

    def note(self, status: int, size: int) -> None:
        """Leave the line."""
        prepared, environ = self.prepared, self.environ
        more = (self.begun, prepared.head if prepared is not None else b"", environ)
        self.access.write(str(environ.get("REMOTE_ADDR", "")), self.line, self.fields, status, size, more)
