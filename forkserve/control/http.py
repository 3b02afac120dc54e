"""One connection of the control interface without I/O: bytes in, a request out; a reply in, bytes out.

h11 does the protocol. This module limits what a client may cost the master: the size of a head (h11's own limit), of a
body (64 KiB), and one request at a time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

__all__ = ["BODY_LIMIT", "ControlExchange", "DelegatedReply", "RequestRefused", "Reply", "Request", "StreamReply"]

BODY_LIMIT = 64 * 1024
HEAD_LIMIT = 16 * 1024


class RequestRefused(Exception):
    """The request is refused; `reply` says why, and the connection ends after it."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request: `path` is decoded, `query` holds the last value of each name, `body` is raw JSON or empty.

    `accept` is the field of this name, or empty.
    """

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; `body` is JSON, unless `media_type` says otherwise."""

    status: HTTPStatus
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class StreamReply:
    """A reply without an end: `first` is sent at once, then what `follow` pushes; None ends it after `first`.

    `follow` is called with a function that sends bytes, and returns a function to call when the client has left.
    """

    first: bytes
    follow: Callable[[Callable[[bytes], None]], Callable[[], None]] | None


@dataclass(frozen=True, slots=True)
class DelegatedReply:
    """A reply that another process sends, without a byte through this one.

    `take` is called with a descriptor of the connection, which it then owns, and with the head of the reply; chunks
    follow it, and the connection ends with them.
    """

    take: Callable[[int, bytes], None]


class ControlExchange:
    """The requests and replies of one connection, in turn."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._raw = bytearray()

    def to_data(self) -> str:
        """Return the received part of the current request, as text: another exchange that receives it has the same
        state.
        """
        return base64.b64encode(self._raw).decode()

    @property
    def has_more(self) -> bool:
        """True if bytes have arrived beyond the current request."""
        return bool(self._h11.trailing_data[0])

    @property
    def finished(self) -> bool:
        """True if this connection is finished."""
        return self._h11.our_state in (h11.CLOSED, h11.MUST_CLOSE, h11.ERROR)

    def receive(self, data: bytes) -> None:
        """Take received bytes; b"" means that the client has closed its side."""
        self._raw += data
        self._h11.receive_data(data)

    def next_request(self) -> Request | None:
        """Return the next whole request, or None until more bytes arrive; raises RequestRefused."""
        try:
            return self._advance()
        except h11.RemoteProtocolError as error:
            raise RequestRefused(HTTPStatus(error.error_status_hint), str(error)) from None

    def _advance(self) -> Request | None:
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
            if isinstance(event, h11.Request):
                if not event.http_version.startswith(b"1."):  # h11 takes any (RFC 9110 section 15.6.6)
                    raise RequestRefused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 and HTTP/1.0 are spoken here")
                self._head = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > BODY_LIMIT:
                    raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body is at most {BODY_LIMIT} bytes")
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                return _request(self._head, bytes(self._body))

    @property
    def wants_continue(self) -> bool:
        """True if the client waits for 100 Continue (RFC 9110 section 10.1.1); curl does for large bodies."""
        return self._h11.they_are_waiting_for_100_continue

    def informational(self) -> bytes:
        """Return the 100 Continue."""
        data = self._h11.send(h11.InformationalResponse(status_code=100, headers=[]))
        return data or b""

    def send(self, reply: Reply, *, close: bool = False) -> bytes:
        """Return the bytes of a reply, and prepare for the next request on this connection."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        is_head = self._head is not None and self._head.method == b"HEAD"
        headers = [("Content-Type", reply.media_type), ("Cache-Control", "no-store"), *reply.headers]
        if reply.body or not is_head:  # else the length of the answer to GET is unknown (RFC 9110 section 8.6)
            headers.append(("Content-Length", str(len(reply.body))))
        if close:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=reply.status, reason=reply.status.phrase, headers=headers)
        parts = [self._h11.send(head), b"" if is_head else self._h11.send(h11.Data(data=reply.body))]
        parts.append(self._h11.send(h11.EndOfMessage()))
        self._start_next_cycle()
        return b"".join(part for part in parts if part)

    def begin_stream(self) -> bytes:
        """Return the head of a reply whose body comes in pieces; the connection ends with it."""
        headers = [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
        ]
        return self._h11.send(h11.Response(status_code=200, reason="OK", headers=headers)) or b""

    def piece(self, data: bytes) -> bytes:
        """Return a piece of such a body in its framing."""
        return self._h11.send(h11.Data(data=data)) or b""

    def end_stream(self) -> bytes:
        """Return the end of such a body."""
        return self._h11.send(h11.EndOfMessage()) or b""

    def _start_next_cycle(self) -> None:
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._raw = bytearray(self._h11.trailing_data[0])


def _request(head: h11.Request, body: bytes) -> Request:
    try:
        split = urlsplit(head.target.decode("ascii", "replace"))
    except ValueError as error:
        raise RequestRefused(HTTPStatus.BAD_REQUEST, f"the target is no address: {error}") from None
    accept = b",".join(value for name, value in head.headers if name == b"accept").decode("latin-1")
    return Request(head.method.decode("ascii"), unquote(split.path), dict(parse_qsl(split.query)), body, accept)
