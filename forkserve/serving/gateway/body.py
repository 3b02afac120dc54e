"""What an application reads: a request's body, whole before the application starts.

Rules: a body is complete or there is no request, so `read` never blocks and never returns half a body as a whole one.
The one exception is a client that waits for `100 Continue`: its body is requested at the first read (RFC 9110 10.1.1),
and a read after the client has left raises OSError.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from io import SEEK_END, SEEK_SET, BufferedIOBase, BytesIO
from tempfile import TemporaryFile
from typing import IO

from forkserve.serving.http.refusal import Refusal

__all__ = ["EMPTY", "EmptyInput", "LazyInput", "BodyBuffer"]

log = logging.getLogger("forkserve.engine")


class EmptyInput(BufferedIOBase):
    """The body of a request without one, with the full interface of a binary file; one instance serves all requests."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return b""."""
        return b""

    read1 = readline = read

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return []."""
        return []

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Stay at 0, the beginning and the end."""
        if whence == SEEK_SET and offset < 0:
            raise ValueError(f"negative seek value {offset}")
        return 0

    def tell(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: the instance is shared."""


EMPTY = EmptyInput()


class LazyInput(BufferedIOBase):
    """A body that is fetched, whole, when the application first reads it; `fetch` returns it or raises OSError."""

    def __init__(self, fetch: Callable[[], IO[bytes] | EmptyInput]) -> None:
        self._fetch = fetch
        self._body: IO[bytes] | EmptyInput | None = None

    def _open(self) -> IO[bytes] | EmptyInput:
        if self._body is None:
            if self.closed:
                raise ValueError("I/O operation on closed file")
            self._body = self._fetch()
        return self._body

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most `size` bytes, or everything that is left; b"" at the end."""
        return self._open().read(-1 if size is None else size)

    read1 = read

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line, or at most `size` bytes of it."""
        return self._open().readline(-1 if size is None else size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return lines until `hint` bytes are reached, or all that are left."""
        return self._open().readlines(-1 if hint is None else hint)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._open())

    def __next__(self) -> bytes:
        return next(self._open())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Move to a position in the body; returns it, counted from the beginning."""
        return self._open().seek(offset, whence)

    def tell(self) -> int:
        return self._open().tell() if self._body is not None else 0

    def close(self) -> None:
        """Release the body if it was fetched."""
        if self._body is not None:
            self._body.close()
        super().close()


class BodyBuffer:
    """A body as it arrives: in memory up to `limit` bytes, then in an unnamed temporary file."""

    __slots__ = ("_file", "_is_read", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._is_read = False
        self._file: IO[bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def write(self, data: bytes) -> None:
        """Add a piece; raises Refusal if there is no room for it, as on a full or read-only disk."""
        self._size += len(data)
        if self._file is None and self._size <= self._limit:
            # BytesIO shares the bytes that it is made of, so a body in one piece is not copied.
            self._file = BytesIO(data)
            self._file.seek(0, SEEK_END)
            return
        if self._size > self._limit:
            self.spill()
        try:
            self._file.write(data)  # type: ignore[union-attr]
            # Now, while it can still be refused: no caller expects an error at the end.
            self._file.flush()  # type: ignore[union-attr]
        except OSError as error:
            raise self._no_room(error) from None

    @property
    def in_memory(self) -> int:
        """Bytes in memory."""
        return self._size if isinstance(self._file, BytesIO) else 0

    def spill(self) -> None:
        """Move the body to a file, unless it was opened; raises Refusal if there is no room for it."""
        if self._is_read or (self._file is not None and not isinstance(self._file, BytesIO)):
            return
        memory = self._file
        try:
            self._file = TemporaryFile()  # noqa: SIM115 - closed by close
            if memory is not None:
                self._file.write(memory.getbuffer())
                self._file.flush()
        except OSError as error:
            raise self._no_room(error) from None

    def _no_room(self, error: OSError) -> Refusal:
        log.error("a body of %d bytes and more cannot be kept, refused: %s (TMPDIR)", self._size, error)
        return Refusal(503, "no room for the body")

    def open(self) -> IO[bytes] | EmptyInput:
        """Return the body from its beginning."""
        if self._file is None:
            return EMPTY
        self._is_read = True
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Release the body."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what did not fit in is written once more, and fails once more
                self._file.close()
