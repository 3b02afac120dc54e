"""Response heads: what an application says, checked, framed and turned into bytes at once.

Rules. A status or header that would insert unintended bytes into the head (CR, LF, NUL, any control) raises
BadResponse: the application gets its error, the client a plain 500, and nothing is injected. So does an interim status
(1xx), which as the final one would leave the client waiting. Hop-by-hop fields are the server's (RFC 9110 section
7.6.1, PEP 3333): those of the application are dropped, but its `Connection: close` is obeyed. Framing is decided here
alone (RFC 9112 section 6): nothing for HEAD, 204 and 304; no content for 205; Content-Length if it is known; else
chunked for HTTP/1.1; else until close. Date is on every response (RFC 9110 section 6.6.1) and comes from the clock that
the driver ticks.

Most applications repeat their heads, so a bounded number of checked heads is cached, by status and headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from http import HTTPStatus

from forkserve.serving.http.dates import date_text

__all__ = ["JOINED", "BadResponse", "Framing", "PreparedHead", "Responder", "ResponseStart"]

JOINED = 65_536
"""Bytes of body from which on head and body are sent apart: joining them would copy the body for each client, and keep
the copy as long as the client does not read.
"""

_STATUS = re.compile(r"[1-9][0-9][0-9](?: [\t -~\x80-\xff]*)?").fullmatch
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_DIGITS = re.compile(rb"[0-9]{1,19}").fullmatch
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade".split()
)
_REMEMBERED = 256
_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class BadResponse(ValueError):
    """The application's status or headers cannot be sent; the text says which and why."""


class Framing(Enum):
    """How the end of a response body is marked."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


class PreparedHead:
    """A checked head, shared between responses: never write to it.

    `head` holds the status line and the application's fields, each line ended. `length` is the application's
    Content-Length, `bodiless` a status that never has a body, `close` the application's wish.
    """

    __slots__ = ("bodiless", "close", "code", "head", "length", "is_fast_path", "stamped")

    def __init__(self, code: int) -> None:
        self.code = code
        self.head = b""
        self.length: int | None = None
        self.bodiless = code in (204, 304)
        self.close = False
        self.stamped = b""
        self.is_fast_path = False


class ResponseStart:
    """The start of a response: `head` has all bytes including the empty line.

    `length` is the number of body bytes to send for Framing.LENGTH, else None; `keep_alive` is what the head promises.
    """

    __slots__ = ("framing", "head", "keep_alive", "length")

    def __init__(self, head: bytes, framing: Framing, length: int | None, keep_alive: bool) -> None:
        self.head = head
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive


class Responder:
    """Makes the heads of all responses of one loop. Threads may share it; only the loop calls `tick`.

    For a separate hot path: `known` maps (status, tuple(headers)) to the result of `prepare`, and `end` are the bytes
    that end the head of an `is_fast_path` one on a connection that stays open.
    """

    __slots__ = ("end", "_last", "known", "_second", "_server", "date")

    def __init__(self, now: float, server: str = "forkserve") -> None:
        self._server = b"Server: " + server.encode("ascii") + b"\r\n" if server else b""
        self.known: dict[object, PreparedHead] = {}
        self._last: object = None
        self._second = -1
        self.date = b""
        self.end = b""
        self.tick(now)

    def tick(self, now: float) -> None:
        """Set the time, in seconds since the epoch; once per turn of the loop is enough."""
        second = int(now)
        if second != self._second:
            self._second = second
            self.date = b"Date: " + date_text(now).encode("ascii") + b"\r\n"
            self.end = self._server + self.date + b"\r\n"

    def prepare(self, status: str, headers: Sequence[tuple[str, str]]) -> PreparedHead:
        """Check what a WSGI application passed to start_response; raises BadResponse."""
        if not isinstance(headers, list | tuple):
            # PEP 3333 wants a list; an iterator may have been gone through already.
            raise BadResponse(f"the headers are not a list of (name, value) tuples, but {type(headers).__name__}")
        try:
            key = (status, tuple(headers))
            prepared = self.known.get(key)
        except TypeError as error:
            raise BadResponse("the headers are not a list of (name, value) tuples of str") from error
        if prepared is None:
            prepared = _build(*_status_of(status), map(_encoded, key[1]))
            self._remember(key, prepared)
        return prepared

    def prepare_raw(self, code: int, headers: Iterable[tuple[bytes, bytes]]) -> PreparedHead:
        """Check what an ASGI application sent in `http.response.start`; raises BadResponse."""
        pairs = [(bytes(name), bytes(value)) for name, value in headers]
        key = (code, tuple(pairs))
        prepared = self.known.get(key)
        if prepared is None:
            if not isinstance(code, int) or not 100 <= code <= 999:
                raise BadResponse(f"the status {code!r} is not a number from 100 to 999")
            prepared = _build(code, b"%d %b" % (code, _PHRASES.get(code, b"")), pairs)
            self._remember(key, prepared)
        return prepared

    def _remember(self, key: object, prepared: PreparedHead) -> None:
        if key == self._last and len(prepared.head) < 2048:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[key] = prepared
        self._last = key

    def whole(
        self, prepared: PreparedHead, body: bytes, *, method: str, modern: bool, keep: bool
    ) -> tuple[bytes, bool]:
        """Return a response whose body is complete, head and body in one piece, and whether the connection stays open.

        A body longer than the Content-Length is cut; a shorter one closes the connection, so that the client notices.
        """
        if prepared.is_fast_path and prepared.length == len(body) and modern and keep and method != "HEAD":
            return prepared.head + self.end + body, True
        if prepared.is_fast_path and prepared.length is None and modern and keep and method != "HEAD":
            return b"%bContent-Length: %d\r\n%b%b" % (prepared.head, len(body), self.end, body), True
        start = self.start(prepared, method=method, modern=modern, keep=keep, length=len(body))
        if start.framing is Framing.NONE:
            return start.head, start.keep_alive
        length = start.length or 0
        return start.head + (body if len(body) <= length else body[:length]), start.keep_alive and len(body) >= length

    def start(
        self, prepared: PreparedHead, *, method: str, modern: bool, keep: bool, length: int | None = None
    ) -> ResponseStart:
        """Frame a response: `keep` is what the request and the driver allow, `length` the body's size if known."""
        parts = [prepared.head]
        framing, size = Framing.NONE, None
        if not prepared.bodiless:
            size = length if prepared.length is None else prepared.length
            if size is not None:
                framing = Framing.LENGTH
                if prepared.length is None and not (method == "HEAD" and size == 0):
                    parts.append(b"Content-Length: %d\r\n" % size)
            elif modern:
                framing = Framing.CHUNKED
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                framing = Framing.CLOSE
            if method == "HEAD":
                framing, size = Framing.NONE, None
        keep = keep and not prepared.close and framing is not Framing.CLOSE
        if not keep:
            parts.append(b"Connection: close\r\n")
        elif not modern:
            parts.append(b"Connection: keep-alive\r\n")
        if prepared.is_fast_path:
            parts.append(self.end)
        else:
            stamped = prepared.stamped
            parts.append(b"" if b"server" in stamped else self._server)
            parts.append(b"\r\n" if b"date" in stamped else self.date + b"\r\n")
        return ResponseStart(b"".join(parts), framing, size, keep)


def _status_of(status: str) -> tuple[int, bytes]:
    if not isinstance(status, str) or not _STATUS(status):
        raise BadResponse(f"the status {status!r} is not three digits, a space and a reason")
    line = status.encode("latin-1")
    return int(line[:3]), line if len(line) > 3 else line + b" "


def _encoded(pair: tuple[str, str]) -> tuple[bytes, bytes]:
    try:
        name, value = pair
        return name.encode("latin-1"), value.encode("latin-1")
    except (AttributeError, TypeError, ValueError) as error:
        raise BadResponse(f"the header {pair!r} is not a (name, value) tuple of latin-1 str") from error


def _build(code: int, status: bytes, pairs: Iterable[tuple[bytes, bytes]]) -> PreparedHead:
    if code < 200:
        raise BadResponse(f"the interim status {code} is the server's to send")
    prepared = PreparedHead(code)
    lines = [b"HTTP/1.1 ", status, b"\r\n"]
    for name, value in pairs:
        if not _NAME(name):
            raise BadResponse(f"the header name {name!r} is not a token")
        if _BAD_VALUE(value):
            raise BadResponse(f"the header {name.decode('ascii')} has a control character in its value")
        lower = name.lower()
        if lower in _HOP_BY_HOP:
            prepared.close = prepared.close or (lower == b"connection" and b"close" in value.lower())
        elif lower != b"content-length" or _takes_length(prepared, value):
            lines += (name, b": ", value, b"\r\n")
            if lower in (b"date", b"server"):
                prepared.stamped += lower
    if code == 205:
        # Its end is marked like that of any other, but it has no content (RFC 9110 section 15.3.6).
        prepared.length = 0
        lines.append(b"Content-Length: 0\r\n")
    prepared.head = b"".join(lines)
    prepared.is_fast_path = not (prepared.stamped or prepared.close or prepared.bodiless)
    return prepared


def _takes_length(prepared: PreparedHead, value: bytes) -> bool:
    """Take a Content-Length; false if it must not be sent (RFC 9110 sections 8.6, 15.3.6)."""
    value = value.strip(b" \t")
    if not _DIGITS(value):
        raise BadResponse(f"the Content-Length {value!r} is not a number")
    if prepared.length is not None:
        raise BadResponse("there are two Content-Length headers")
    prepared.length = int(value)
    return prepared.code not in (204, 205)
