"""The body of a request: how many of the bytes after a head belong to it (RFC 9112 sections 6 and 7).

Both framings have one interface: `feed(data)` returns the body bytes that data contains (maybe none) and raises
Refusal; when `done` is true, `rest` has what follows the message. Both parsers share this code, so a message ends at
the same place with either.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from forkserve.config.serving import LINE, HttpLimits
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.strict import check_cut, field_of

__all__ = ["BodyReader", "ChunkedBody", "LengthBody", "body_reader"]

_TRAILERS = LINE
"""Bytes of all trailer fields together; beyond it 431."""
_CHUNK_LINE_SIZE = 256
"""Bytes of a chunk size with its extensions; beyond it 400."""
_CHUNK_OVERHEAD = 65_536
"""Bytes of all chunk extensions of a message; beyond it 400 (Go's rule against paying much for little data)."""
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t !-~\x80-\xff])*"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)"
).fullmatch
_CUT_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{0,16}(?:[ \t]*;[\t -~\x80-\xff]*|[ \t]*)\r?").fullmatch
_SMALL = {form % size: size for size in range(1, 256) for form in (b"%x", b"%X")}
"""Chunk sizes of one or two digits."""
_FORBIDDEN_TRAILERS = frozenset(
    b"authorization connection content-length cookie expect forwarded host keep-alive max-forwards proxy"
    b" proxy-authorization range te trailer transfer-encoding upgrade".split()
)
"""Framing, routing, authentication (RFC 9110 section 6.5.1): a trailer must not change what was decided."""
_DROPPED_TRAILERS = frozenset((b"content-encoding", b"content-range", b"content-type"))
"""Fields that say how the content is to be read: too late, but harmless if they are dropped (RFC 9112 section
7.1.2).
"""


class LengthBody:
    """A body of Content-Length bytes."""

    __slots__ = ("done", "left", "rest")
    trailers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        left = self.left
        size = len(data)
        if size < left:
            self.left = left - size
            return data
        self.left = 0
        self.done = True
        if size == left:
            return data
        self.rest = data[left:]
        return data[:left]


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


class ChunkedBody:
    """A body in chunks; `trailers` are (lower-case name, value) pairs once `done`, never merged into the headers."""

    __slots__ = (
        "_left",
        "_most",
        "_overhead",
        "_pending",
        "_state",
        "_total",
        "_trailers",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._most = limits.max_body
        self._state = _State.SIZE
        self._pending = b""
        self._left = 0
        self._total = 0
        self._overhead = 0
        self._trailers = 0
        self.done = False
        self.rest = b""
        self.trailers: tuple[tuple[bytes, bytes], ...] = ()

    def feed(self, data: bytes) -> bytes:
        if self._pending:
            data = self._pending + data
            self._pending = b""
        blocks: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._state is _State.SIZE:
                at = self._small(data, at, blocks)
            if self._state is _State.DATA:
                block = data[at : at + self._left]
                blocks.append(block)
                at += len(block)
                self._left -= len(block)
                if not self._left:
                    self._state = _State.DATA_END
            elif (end := data.find(b"\r\n", at, at + self._line_limit() + 2)) < 0:
                self._cut(data[at:])
                break
            else:
                self._line(data[at:end])
                at = end + 2
        if self.done:
            self.rest = data[at:]
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _small(self, data: bytes, at: int, blocks: list[bytes]) -> int:
        """Take the small chunks that are complete; returns where they end.

        A client may send as many as fit into one read, and all others wait meanwhile.
        """
        total, most = self._total, self._most
        while (end := data.find(b"\r\n", at, at + 4)) > 0:
            size = _SMALL.get(data[at:end])
            if size is None:
                break
            stop = end + 2 + size
            if data[stop : stop + 2] != b"\r\n":
                break
            total += size
            if total > most:
                raise Refusal(413, "the body is too large")
            blocks.append(data[end + 2 : stop])
            at = stop + 2
        self._total = total
        return at

    def _line_limit(self) -> int:
        if self._state is _State.TRAILERS:
            return _TRAILERS - self._trailers
        return _CHUNK_LINE_SIZE if self._state is _State.SIZE else 0

    def _line(self, line: bytes) -> None:
        if self._state is _State.SIZE:
            self._size(line)
        elif self._state is _State.TRAILERS:
            self._trailer(line)
        elif line:
            raise Refusal(400, "a chunk longer than its size")
        else:
            self._state = _State.SIZE

    def _size(self, line: bytes) -> None:
        match = _CHUNK_LINE(line)
        if match is None:
            raise Refusal(400, "an invalid chunk size")
        size = int(match[1], 16)
        self._overhead += len(line) - len(match[1])
        self._total += size
        if self._overhead > _CHUNK_OVERHEAD:
            raise Refusal(400, "too many chunk extensions")
        if self._total > self._most:
            raise Refusal(413, "the body is too large")
        self._left = size
        self._state = _State.DATA if size else _State.TRAILERS

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line) + 2
        name, value = field_of(line)
        name = name.lower()
        if name in _FORBIDDEN_TRAILERS:
            raise Refusal(400, "a forbidden trailer field")
        if b"_" not in name and name not in _DROPPED_TRAILERS:
            self.trailers += ((name, value),)

    def _cut(self, line: bytes) -> None:
        """Keep an incomplete line, if it may still become valid."""
        if len(line) > self._line_limit() + 1:
            trailers = self._state is _State.TRAILERS
            status, what = (431, "the trailers are too large") if trailers else (400, "an invalid chunk")
            raise Refusal(status, what)
        if self._state is _State.SIZE and not _CUT_CHUNK_LINE(line):
            raise Refusal(400, "an invalid chunk size")
        if self._state is _State.DATA_END and line != b"\r":
            raise Refusal(400, "a chunk longer than its size")
        if self._state is _State.TRAILERS:
            check_cut(line, first=True)
        self._pending = line


BodyReader = LengthBody | ChunkedBody


def body_reader(fields: Fields, limits: HttpLimits) -> BodyReader | None:
    """Return the reader for what follows this head, or None if the message ends with it; raises Refusal 413."""
    if fields.chunked:
        return ChunkedBody(limits)
    if not fields.content_length:
        return None
    if fields.content_length > limits.max_body:
        raise Refusal(413, "the body is too large")
    return LengthBody(fields.content_length)
