"""What a request and its response have in common, whatever the interface; `wsgi` and `asgi.exchange` go on from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from forkserve.serving.http.errors import error_response
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["BaseExchange"]


class BaseExchange:
    """A request on a connection, for a site: what all exchanges of one serving share."""

    __slots__ = ("conn", "fields", "line")
    conn: Any
    """The `Transport` of the interface."""
    line: RequestLine
    fields: Fields
    site: ClassVar[Any]
    """Set by the backend on a subclass of its own."""
    error: ClassVar[Callable[..., tuple[bytes, bool]]] = staticmethod(error_response)

    def may_keep(self) -> bool:
        """Tell whether the connection can take another request after this one."""
        raise NotImplementedError

    def error_page(self, code: int) -> tuple[bytes, bool]:
        """Return a response of ours in place of the application's, and whether the connection stays."""
        line = self.line
        return self.error(self.site.responder, code, method=line.method, modern=line.modern, keep=self.may_keep())

    def note(self, status: int, size: int) -> None:
        """Know that the response is out, `size` bytes of body; for exchanges that are logged."""

    def name(self) -> tuple[str, str]:
        """Return method and path, as the log calls a request."""
        return self.line.method, self.line.path
