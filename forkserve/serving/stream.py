"""A response that is sent in pieces: how each is framed, and what is missing at the end; for both interfaces."""

from __future__ import annotations

from forkserve.serving.http.response import Framing, ResponseStart

__all__ = ["Stream"]

# As names of the module: an attribute of an enum takes three times as long, and each piece asks for one.
NONE, LENGTH, CHUNKED = Framing.NONE, Framing.LENGTH, Framing.CHUNKED
LAST_CHUNK = b"0\r\n\r\n"


class Stream:
    """`size` counts body bytes, `missing` those that were promised and not sent; `keep` is the head's promise.

    `bodiless` is true if no byte of a body is sent, as for HEAD, 204 and 304. Chunks are those of RFC 9112 section
    7.1; requests are decoded in `http.body`.
    """

    __slots__ = ("_framing", "_left", "_trailers", "bodiless", "keep", "size")

    def __init__(self, start: ResponseStart) -> None:
        self._framing = start.framing
        self._left = start.length or 0
        self._trailers = b""
        self.bodiless = start.framing is NONE
        self.keep = start.keep_alive
        self.size = 0

    @property
    def missing(self) -> int:
        """Bytes of the Content-Length that are still missing."""
        return self._left if self._framing is LENGTH else 0

    def piece(self, data: bytes) -> bytes:
        """Return the bytes to send for a piece of the body; what exceeds the Content-Length is cut."""
        framing = self._framing
        if framing is CHUNKED:
            size = len(data)
            self.size += size
            # An empty chunk would end the body.
            return b"%x\r\n%b\r\n" % (size, data) if size else b""
        if framing is NONE:
            return b""
        if framing is LENGTH:
            data = data[: self._left]
            self._left -= len(data)
        self.size += len(data)
        return data

    def file(self, count: int) -> tuple[bytes, int, bytes]:
        """Return what is sent before and after `count` bytes of a file, and how many of them are sent."""
        framing = self._framing
        if framing is NONE or not count:
            return b"", 0, b""
        if framing is LENGTH:
            count = min(count, self._left)
            self._left -= count
        self.size += count
        return (b"%x\r\n" % count, count, b"\r\n") if framing is CHUNKED else (b"", count, b"")

    def trail(self, lines: bytes) -> None:
        """Set the trailer fields, as lines."""
        self._trailers += lines

    def end(self) -> bytes:
        """Return what marks the end."""
        if self._framing is not CHUNKED:
            return b""
        return b"0\r\n" + self._trailers + b"\r\n" if self._trailers else LAST_CHUNK
