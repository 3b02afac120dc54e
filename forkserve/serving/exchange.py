"""What a request and its response have in common, whatever the interface; `wsgi` and `asgi.exchange` go on from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from forkserve.serving.http.errors import error_response
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["BaseExchange", "Bodiless"]


class Bodiless:
    """The part of an exchange in which it is given its body, for requests that have none."""

    __slots__ = ()

    def body(self, data: bytes) -> None:
        """Never called."""

    def body_end(self) -> None:
        """Never called."""

    def body_held(self) -> None:
        """Never called."""

    def spill(self) -> None:
        """Keep nothing in a file."""

    def let_go(self) -> bool:
        """Never called."""
        return False


class BaseExchange:
    """A request on a connection, for a site: what all exchanges of one serving share."""

    __slots__ = ("conn", "fields", "line", "since")
    conn: Any
    """The `Transport` of the interface."""
    line: RequestLine
    fields: Fields
    since: float
    """The instant at which the loop found its head, where requests are counted."""
    keeper: ClassVar[str]
    """Name of the attribute that keeps the request's body, or is None."""
    site: ClassVar[Any]
    """Set by the backend on its subclass."""
    error: ClassVar[Callable[..., tuple[bytes, bool]]] = staticmethod(error_response)

    @property
    def in_memory(self) -> int:
        """Bytes of the request's body that are in memory."""
        kept = getattr(self, self.keeper)
        return 0 if kept is None else int(kept.in_memory)

    def spill(self) -> None:
        """Keep the body in a file from now on, where that is possible. Raises Refusal."""
        kept = getattr(self, self.keeper)
        if kept is not None:
            kept.spill()

    def fail(self, error: BaseException) -> None:
        """Answer for what the application raised; if that fails as well, as without memory, close the connection."""
        try:
            self._fail(error)
        except BaseException:
            self.conn.done(False)
            raise

    def _fail(self, error: BaseException) -> None:
        raise NotImplementedError

    def give_up(self) -> None:
        """Close the connection if this exchange has not ended: what ran it has failed."""
        if getattr(self.conn, "exchange", None) is self:
            self.conn.done(False)

    def may_keep(self) -> bool:
        """Tell whether the connection can take another request after this one."""
        raise NotImplementedError

    def error_page(self, code: int) -> tuple[bytes, bool]:
        """Return a response of ours in place of the application's, and whether the connection stays."""
        line = self.line
        return self.error(self.site.responder, code, method=line.method, modern=line.modern, keep=self.may_keep())

    def note(self, status: int, size: int) -> None:
        """Called when the response is out, with `size` bytes of body; for exchanges that are logged."""

    def client(self) -> str:
        """Return the client's address, as the access log has it; empty where it is unknown."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, Any]:
        """Return what the access log may tell besides."""
        raise NotImplementedError

    def name(self) -> tuple[str, str]:
        """Return method and path, as the log calls a request."""
        return self.line.method, self.line.path
