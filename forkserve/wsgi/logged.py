"""A WSGI exchange that leaves a line in the access log; the other kind pays nothing for it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from forkserve.http.fields import Fields
from forkserve.http.line import RequestLine
from forkserve.wsgi.exchange import Exchange
from forkserve.wsgi.transport import Transport

__all__ = ["LoggedExchange"]


class LoggedExchange(Exchange):
    """An exchange that knows when it began."""

    __slots__ = ("begun",)
    access: ClassVar[Any]
    """The `forkserve.engine.access.AccessLog`, set by the backend."""

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        super().__init__(conn, line, fields)
        self.begun = time.monotonic()

    def note(self, status: int, size: int) -> None:
        """Leave the line."""
        prepared = self.prepared
        self.access.write(
            self.environ["REMOTE_ADDR"], self.line, self.fields, status=status, size=size, begun=self.begun,
            head=prepared.head if prepared is not None else b"", variables=self.environ,
        )  # fmt: skip
