"""ASGI exchanges whose request has an id, its own or a new one; the other kind pays nothing for it.

The id is an extension of the scope, `forkserve.request_id`, and the header field there, and goes out in the response,
also in that of an error.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from forkserve.serving.asgi.exchange import Exchange
from forkserve.serving.asgi.site import Message
from forkserve.serving.http.accesslog import REQUEST_ID
from forkserve.serving.http.errors import error_response
from forkserve.serving.http.response import Prepared, Responder
from forkserve.serving.http.tracecontext import request_id

__all__ = ["IdentifiedExchange"]


class IdentifiedExchange(Exchange):
    """An exchange with an id."""

    __slots__ = ()
    header: ClassVar[str]
    """The field that carries it, set by the backend."""

    def note_scope(self, scope: dict[str, Any]) -> None:
        """Give the request its id."""
        super().note_scope(scope)
        name = self.header.lower().encode()
        headers = scope["headers"]
        self.identity = request_id(_only(headers, name), _only(headers, b"traceparent"), os.urandom(16))
        scope["headers"] = [pair for pair in headers if pair[0] != name] + [(name, self.identity.encode())]
        scope["extensions"][REQUEST_ID] = {"id": self.identity}

    def variables(self) -> dict[str, Any]:
        """Return what the log may tell besides."""
        return {REQUEST_ID: self.identity}

    def error(self, responder: Responder, code: int, **framing: Any) -> tuple[bytes, bool]:
        """Return an error response with the id."""
        return error_response(responder, code, more=[(self.header, self.identity)], **framing)

    def fields_of(self, headers: Any) -> list[tuple[bytes, bytes]]:
        """Return the application's header fields, and the id, if it is not among them."""
        fields = list(headers)
        if not any(bytes(name).lower() == self.header.lower().encode() for name, _ in fields):
            fields.append((self.header.encode(), self.identity.encode()))
        return fields

    def _prepared(self, message: Message) -> Prepared:
        return super()._prepared({**message, "headers": self.fields_of(message.get("headers", ()))})


def _only(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the value of a field that is there once; of two, none can be believed."""
    found = [value for key, value in headers if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None
