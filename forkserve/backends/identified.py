"""WSGI exchanges whose request has an id, its own or a new one; the other kind pays nothing for it.

The id is a variable of the environ and the header field there, and goes out in the response, also in that of an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from forkserve.serving.http.accesslog import REQUEST_ID
from forkserve.serving.http.errors import error_response
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.response import Responder
from forkserve.serving.http.tracecontext import request_id
from forkserve.serving.transport import Transport
from forkserve.wsgi import Exchange

__all__ = ["IdentifiedExchange", "variable_of"]


class IdentifiedExchange(Exchange):
    """An exchange with an id."""

    __slots__ = ()
    header: ClassVar[str]
    """The field that carries it, set by the backend; `variable` is its name in the environ."""
    variable: ClassVar[str]

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        super().__init__(conn, line, fields)
        get = self.environ.get
        identity = request_id(get(self.variable), get("HTTP_TRACEPARENT"), os.urandom(16))
        self.environ[self.variable] = self.environ[REQUEST_ID] = identity

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
        """Take status and headers, and add the id, if the application has not."""
        if isinstance(headers, list) and not any(self._is_mine(pair) for pair in headers):
            headers = [*headers, *self._more()]
        return super().start_response(status, headers, exc_info)

    def error(self, responder: Responder, code: int, **framing: Any) -> tuple[bytes, bool]:
        """Return an error response with the id."""
        return error_response(responder, code, more=self._more(), **framing)

    def _more(self) -> list[tuple[str, str]]:
        return [(self.header, self.environ[self.variable])] if self.variable in self.environ else []

    def _is_mine(self, pair: Any) -> bool:
        return isinstance(pair, tuple) and str(pair[:1]).lower() == str((self.header,)).lower()


def variable_of(header: str) -> str:
    """Return the name of a header field in an environ (PEP 3333)."""
    return "HTTP_" + header.upper().replace("-", "_")
