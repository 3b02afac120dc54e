"""Checks of an application's messages: each function takes a message and raises BadResponse, with a text that names the
error, for what cannot be sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from forkserve.serving.asgi.context import Message
from forkserve.serving.http.response import BadResponse, PreparedHead, Responder

__all__ = ["body_bytes", "early_hints", "field_lines", "prepared_head", "trailer_fields", "without_handshake"]

_FRAMING = frozenset({b"content-length", b"date", b"server"})


def prepared_head(responder: Responder, message: Message) -> PreparedHead:
    """Parse a `http.response.start`, or its counterpart for WebSocket."""
    try:
        prepared = responder.prepare_raw(message["status"], message.get("headers", ()))
    except KeyError:
        raise BadResponse(f"{message['type']} has no status") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, BadResponse):
            raise
        raise BadResponse(f"the headers of {message['type']} are not pairs of bytes: {error}") from error
    if prepared.code < 200:
        raise BadResponse(f"the interim status {prepared.code} is the server's to send")
    return prepared


def body_bytes(data: Any) -> bytes:
    """Return the body of a `http.response.body`."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadResponse(f"a body consists of bytes, got {type(data).__name__}")
    return bytes(data)


def early_hints(responder: Responder, message: Message) -> bytes:
    """Parse a `http.response.early_hint`: returns the whole interim response (RFC 8297)."""
    links = [(b"link", link) for link in message.get("links", ())]
    return b"HTTP/1.1 103 Early Hints\r\n" + field_lines(responder, links) + b"\r\n"


def trailer_fields(responder: Responder, message: Message) -> bytes:
    """Return the fields of a `http.response.trailers` as lines; those that would change the framing are left out."""
    return field_lines(responder, message.get("headers", ()))


def field_lines(responder: Responder, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Check fields like those of a head; the status line used for that is dropped."""
    try:
        pairs = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
        return responder.prepare_raw(200, pairs).head.partition(b"\r\n")[2]
    except (AttributeError, TypeError) as error:
        raise BadResponse(f"the fields are not pairs of bytes: {error}") from error


def without_handshake(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return the header fields except those by which we answer a WebSocket's handshake (RFC 6455 section 4.2.2)."""
    return [(name, value) for name, value in headers if not bytes(name).lower().startswith(b"sec-websocket-")]
