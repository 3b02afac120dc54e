"""What an application says in its messages, judged: each function takes a message and raises BadResponse, with a text
that names what is wrong, for what cannot be sent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

from forkserve.serving.asgi.site import Message
from forkserve.serving.http.response import BadResponse, Prepared, Responder

__all__ = ["FilePart", "body_bytes", "early_hints", "field_lines", "file_part", "prepared_head", "trailer_fields"]

_FRAMING = frozenset({b"content-length", b"date", b"server"})


def prepared_head(responder: Responder, message: Message) -> Prepared:
    """Read a `http.response.start`, or its like of WebSocket."""
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
    """Read the body of a `http.response.body`."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadResponse(f"a body consists of bytes, got {type(data).__name__}")
    return bytes(data)


def early_hints(responder: Responder, message: Message) -> bytes:
    """Read a `http.response.early_hint`: the whole interim response (RFC 8297)."""
    links = [(b"link", link) for link in message.get("links", ())]
    return b"HTTP/1.1 103 Early Hints\r\n" + field_lines(responder, links) + b"\r\n"


def trailer_fields(responder: Responder, message: Message) -> bytes:
    """Read a `http.response.trailers`: its fields as lines; those that would change the framing are left out."""
    return field_lines(responder, message.get("headers", ()))


def field_lines(responder: Responder, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Judge fields as those of a head are; the status line that they are judged under falls away."""
    try:
        pairs = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
        return responder.prepare_raw(200, pairs).head.partition(b"\r\n")[2]
    except (AttributeError, TypeError) as error:
        raise BadResponse(f"the fields are not pairs of bytes: {error}") from error


@dataclass(frozen=True, slots=True)
class FilePart:
    """`count` bytes from `offset` of an open file."""

    file: Any
    offset: int
    count: int
    more: bool
    own: IO[bytes] | None = None

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.own is not None:
            self.own.close()


def file_part(message: Message) -> FilePart:
    """Read a `http.response.pathsend` or `http.response.zerocopysend`. Raises OSError for a path that is no file."""
    if message["type"] == "http.response.pathsend":
        file = open(message["path"], "rb")  # noqa: SIM115 - closed by the part
        return FilePart(file, 0, os.fstat(file.fileno()).st_size, False, file)
    file = message["file"]
    offset, count = message.get("offset"), message.get("count")
    fd = file if isinstance(file, int) else file.fileno()
    if offset is None:
        offset = os.lseek(fd, 0, os.SEEK_CUR)
    rest = max(0, os.fstat(fd).st_size - offset)
    count = rest if count is None else min(count, rest)
    return FilePart(_Descriptor(fd), offset, count, bool(message.get("more_body", False)))


@dataclass(frozen=True, slots=True)
class _Descriptor:
    fd: int

    def fileno(self) -> int:
        return self.fd
