"""Exchanges with a line in the access log, for both interfaces; others pay nothing for it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from forkserve.serving.exchange import BaseExchange
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["LoggedExchange", "TimedExchange", "logging_by"]


class LoggedExchange(BaseExchange):
    """An exchange for a format without anything that differs with each request."""

    __slots__ = ()
    access: ClassVar[Any]
    """The `forkserve.serving.engine.access.AccessLog`, set by the backend."""

    def note(self, status: int, size: int) -> None:
        """Write the line."""
        self.access.write(self.client(), self.line, self.fields, status, size)


class TimedExchange(LoggedExchange):
    """An exchange that knows when it began, for formats that need everything."""

    __slots__ = ()
    begun: float
    """In a slot of the derived class: two bases with slots have no common layout."""

    def __init__(self, conn: Any, line: RequestLine, fields: Fields) -> None:
        self.begun = time.monotonic()  # type: ignore[misc]  # the slot is of the class that `logging_by` has made
        super().__init__(conn, line, fields)  # type: ignore[call-arg]  # that of the interface's exchange

    def note(self, status: int, size: int) -> None:
        """Write the line."""
        prepared = getattr(self, "prepared", None)
        more = (self.begun, prepared.head if prepared is not None else b"", self.variables())
        self.access.write(self.client(), self.line, self.fields, status, size, more)


def logging_by(access: Any) -> tuple[type[LoggedExchange], dict[str, Any]]:
    """Return the class that an exchange must inherit first to be logged there, and what the derived class needs."""
    if access.timed:
        return TimedExchange, {"access": access, "__slots__": ("begun",)}
    return LoggedExchange, {"access": access}
