"""A response that goes out in pieces: how each is framed, and what is left at the end; for both interfaces."""

from __future__ import annotations

from forkserve.serving.http.chunked import encode_chunk
from forkserve.serving.http.response import Framing, Start

__all__ = ["Stream"]


class Stream:
    """`size` counts body bytes, `missing` those that were promised and did not come; `keep` is the head's promise."""

    __slots__ = ("_framing", "_left", "_trailers", "keep", "size")

    def __init__(self, start: Start) -> None:
        self._framing = start.framing
        self._left = start.length or 0
        self._trailers = b""
        self.keep = start.keep_alive
        self.size = 0

    @property
    def bodiless(self) -> bool:
        """Whether no byte of a body goes out, as for HEAD, 204 and 304."""
        return self._framing is Framing.NONE

    @property
    def missing(self) -> int:
        """Bytes of the Content-Length that are still to come."""
        return self._left if self._framing is Framing.LENGTH else 0

    def piece(self, data: bytes) -> bytes:
        """Return what goes out for a piece of the body; more than the Content-Length is cut."""
        framing = self._framing
        if framing is Framing.NONE:
            return b""
        if framing is Framing.LENGTH:
            data = data[: self._left]
            self._left -= len(data)
        self.size += len(data)
        return encode_chunk(data) if framing is Framing.CHUNKED else data

    def file(self, count: int) -> tuple[bytes, int, bytes]:
        """Return what goes before and behind `count` bytes of a file, and how many of them go out."""
        framing = self._framing
        if framing is Framing.NONE or not count:
            return b"", 0, b""
        if framing is Framing.LENGTH:
            count = min(count, self._left)
            self._left -= count
        self.size += count
        return (b"%x\r\n" % count, count, b"\r\n") if framing is Framing.CHUNKED else (b"", count, b"")

    def trail(self, lines: bytes) -> None:
        """Note trailer fields, as lines."""
        self._trailers += lines

    def end(self) -> bytes:
        """Return what marks the end."""
        return b"0\r\n" + self._trailers + b"\r\n" if self._framing is Framing.CHUNKED else b""
