"""WSGI exchanges whose request has an id: a variable of the environ, `forkserve.request_id`, and the field there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from forkserve.serving.http.accesslog import REQUEST_ID
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.identified import IdentifiedExchange, identity_for
from forkserve.serving.transport import Transport
from forkserve.wsgi import WsgiExchange

__all__ = ["WsgiIdentified", "variable_of"]


class WsgiIdentified(IdentifiedExchange, WsgiExchange):
    """An exchange with an id."""

    __slots__ = ()
    variable: ClassVar[str]
    """The name of its field in the environ, set by the backend."""

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        super().__init__(conn, line, fields)
        get = self.environ.get
        identity = identity_for(get(self.variable), get("HTTP_TRACEPARENT"))
        self.environ[self.variable] = self.environ[REQUEST_ID] = identity

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
        """Take status and headers, and add the id, if the application has not."""
        if isinstance(headers, list) and not any(self._is_mine(pair) for pair in headers):
            headers = [*headers, *self.identity_fields()]
        return super().start_response(status, headers, exc_info)

    def identity_fields(self) -> list[tuple[str, str]]:
        """Return the field with the id that the environ has now."""
        return [(self.header, self.environ[self.variable])] if self.variable in self.environ else []

    def _is_mine(self, pair: Any) -> bool:
        return isinstance(pair, tuple) and str(pair[:1]).lower() == str((self.header,)).lower()


def variable_of(header: str) -> str:
    """Return the name of a header field in an environ (PEP 3333)."""
    return "HTTP_" + header.upper().replace("-", "_")
