"""What a request and its response have in common, whatever the interface; `wsgi` and `asgi.exchange` extend it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from forkserve.serving.ends import End
from forkserve.serving.failure import log_failure
from forkserve.serving.http.errors import error_response
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.stream import Stream

__all__ = ["GONE", "BaseExchange", "Bodiless"]

GONE = 499
"""The status of a request whose client left before the response began, as in nginx: it was sent to no one."""


class Bodiless:
    """The part of an exchange that receives its body, for requests that have none."""

    __slots__ = ()

    def body(self, data: bytes) -> None:
        """Never called."""

    def body_end(self) -> None:
        """Never called."""

    def body_held(self) -> None:
        """Never called."""

    def spill(self) -> None:
        """Keep nothing in a file."""


class BaseExchange:
    """A request on a connection: what all exchanges of one serving share."""

    __slots__ = ("conn", "fields", "line", "since")
    conn: Any
    """The `Transport` of the interface."""
    line: RequestLine
    fields: Fields
    since: float
    """The instant at which the loop found its head, if requests are counted."""
    keeper: ClassVar[str]
    """Name of the attribute that holds the request's body, or None."""
    serving: ClassVar[Any]
    """The serving context of the interface, set by the backend on its subclass."""
    log: ClassVar[logging.Logger]
    error: ClassVar[Callable[..., tuple[bytes, bool]]] = staticmethod(error_response)

    @property
    def in_memory(self) -> int:
        """Bytes of the request's body that are in memory."""
        kept = getattr(self, self.keeper)
        return 0 if kept is None else int(kept.in_memory)

    def spill(self) -> None:
        """Keep the body in a file from now on, if possible. Raises Refusal."""
        kept = getattr(self, self.keeper)
        if kept is not None:
            kept.spill()

    def end(self, how: End, error: BaseException | None = None) -> bool:
        """End it before its response is whole, as the table in `ends` says.

        `error` is what the application raised, if that is to be logged. Returns False if the application goes on:
        it learns of the end from its connection.
        """
        if how is End.FAULT:
            if getattr(self.conn, "exchange", None) is self:
                self.conn.done(False)
            return True
        if how is End.LOST or how is End.BROKEN_BODY:
            return self.on_client_end(how)
        ending = how.value
        if ending.traced and error is not None:
            log_failure(error, *self.name())
        if ending.message:
            self.log.error(ending.message, *self.name())
        self.cut_short(how)
        return True

    def fail(self, error: BaseException) -> None:
        """Answer for an exception of the application; if that fails as well, as without memory, close the
        connection.
        """
        try:
            self.end(*self.end_by(error))
        except BaseException:
            self.conn.done(False)
            raise

    def end_by(self, error: BaseException) -> tuple[End, BaseException | None]:
        """Return the end for an exception of the application, and the exception if it is to be logged."""
        raise NotImplementedError

    def on_client_end(self, how: End) -> bool:
        """Called when the client has left, or its body is rejected; like `end`."""
        raise NotImplementedError

    def cut_short(self, how: End) -> None:
        """Answer in place of the application if nothing was sent, and return the connection."""
        raise NotImplementedError

    def keeps_after(self, stream: Stream) -> bool:
        """Tell whether the connection stays open after a response that the application has ended; a short one is
        logged.
        """
        if stream.missing:
            self.log.warning(
                "%s %r: the body is %d bytes shorter than its Content-Length", *self.name(), stream.missing
            )
        return stream.keep and not stream.missing

    def may_keep(self) -> bool:
        """Tell whether the connection can take another request after this one."""
        raise NotImplementedError

    def error_page(self, how: End) -> tuple[bytes, bool]:
        """Return an error response in place of the application's, and whether the connection stays open."""
        line, keep = self.line, how.value.keeps and self.may_keep()
        return self.error(self.serving.responder, how.status, method=line.method, modern=line.modern, keep=keep)

    def note(self, status: int, size: int) -> None:
        """Called when the response was sent, or cut, with `size` bytes of body; for exchanges that are logged."""

    def client(self) -> str:
        """Return the client's address for the access log; empty if unknown."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, Any]:
        """Return further variables for the access log."""
        raise NotImplementedError

    def name(self) -> tuple[str, str]:
        """Return method and path, by which the log names a request."""
        return self.line.method, self.line.path
