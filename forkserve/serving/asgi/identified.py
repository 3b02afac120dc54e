"""ASGI exchanges whose request has an id: an extension of the scope, `forkserve.request_id`, and the field there."""

from __future__ import annotations

from typing import Any

from forkserve.serving.asgi.context import Message
from forkserve.serving.asgi.exchange import AsgiExchange
from forkserve.serving.http.accesslog import REQUEST_ID
from forkserve.serving.http.response import PreparedHead
from forkserve.serving.identified import IdentifiedExchange, identity_for

__all__ = ["AsgiIdentified"]


class AsgiIdentified(IdentifiedExchange, AsgiExchange):
    """An exchange with an id."""

    __slots__ = ()

    def note_scope(self, scope: dict[str, Any]) -> None:
        """Give the request its id."""
        super().note_scope(scope)
        name = self.header.lower().encode()
        headers = scope["headers"]
        self.identity = identity_for(_only(headers, name), _only(headers, b"traceparent"))
        scope["headers"] = [pair for pair in headers if pair[0] != name] + [(name, self.identity.encode())]
        scope["extensions"][REQUEST_ID] = {"id": self.identity}

    def identity_fields(self) -> list[tuple[str, str]]:
        """Return the field with the id."""
        return [(self.header, self.identity)]

    def fields_of(self, headers: Any) -> list[tuple[bytes, bytes]]:
        """Return the application's header fields, and the id, if it is not among them."""
        fields = list(headers)
        if not any(bytes(name).lower() == self.header.lower().encode() for name, _ in fields):
            fields.append((self.header.encode(), self.identity.encode()))
        return fields

    def _prepared(self, message: Message) -> PreparedHead:
        return super()._prepared({**message, "headers": self.fields_of(message.get("headers", ()))})


def _only(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the value of a field that occurs once; of two, none can be trusted."""
    found = [value for key, value in headers if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None
