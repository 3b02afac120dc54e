"""Files that an application has sent in its place: which bytes of them, and how they are read.

Rules: a regular file is sent by sendfile(2). A file whose size says nothing (one of /proc or /sys, a pipe, a device) is
read to its end. The loop waits for it.
"""

from __future__ import annotations

import asyncio
import operator
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any

from forkserve.serving.asgi.context import Message

__all__ = ["AsgiFilePart", "file_part", "watched"]

BLOCK = 65_536
"""Bytes read at once."""


@dataclass(frozen=True, slots=True)
class AsgiFilePart:
    """`count` bytes from `offset` of an open file; if `sized` is False at most that many, until the end of the file.

    `offset` is None for the current position of the file.
    """

    file: Any
    offset: int | None
    count: int
    more: bool
    sized: bool = True
    waits: bool = False
    """Whether to wait until it is readable."""
    own: IO[bytes] | None = None

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.own is not None:
            self.own.close()

    def read(self, done: int) -> bytes | None:
        """Read on after the first `done` bytes; b"" at the end, None if there is nothing yet. Raises OSError."""
        size, fd = min(BLOCK, self.count - done), self.file.fileno()
        try:
            return os.read(fd, size) if self.offset is None else os.pread(fd, size, self.offset + done)
        except BlockingIOError:
            return None


def file_part(message: Message) -> AsgiFilePart:
    """Parse a `http.response.pathsend` or `http.response.zerocopysend`.

    Raises OSError for a path that is not a file, TypeError or ValueError for what is no path, offset or count.
    """
    if message["type"] == "http.response.pathsend":
        # The opening of a pipe would wait for its writer.
        # A number would be a descriptor, which may be one of ours, and closing the part closes it.
        path = os.fspath(message["path"])
        own = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115 - closed by the part
        return _part(own, 0, None, False, own)
    file, more = message["file"], bool(message.get("more_body", False))
    offset, count = _natural(message, "offset"), _natural(message, "count")
    if offset is not None:
        return _part(_descriptor(file), offset, count, more)
    part = _part(_descriptor(file), _tell(file), count, more)
    if part.offset is None:
        return part
    if not part.sized:
        # What is read moves on by itself.
        os.lseek(part.file.fileno(), part.offset, os.SEEK_SET)
        return replace(part, offset=None)
    # As sendfile(2) does without an offset.
    _seek(file, part.offset + part.count)
    return part


def _natural(message: Message, key: str) -> int | None:
    value = message.get(key)
    if value is not None and operator.index(value) < 0:
        raise ValueError(f"{key} is not negative, got {value}")
    return value


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _part(file: Any, offset: int | None, count: int | None, more: bool, own: IO[bytes] | None = None) -> AsgiFilePart:
    status = os.fstat(file.fileno())
    regular = stat.S_ISREG(status.st_mode)
    if not regular or not status.st_size or not status.st_blocks or offset is None:
        seeks = regular and offset is not None
        limit = sys.maxsize if count is None else count
        return AsgiFilePart(file, offset if seeks else None, limit, more, sized=False, waits=not regular, own=own)
    rest = max(0, status.st_size - offset)
    return AsgiFilePart(file, offset, rest if count is None else min(count, rest), more, own=own)


def _tell(file: Any) -> int | None:
    """Return the position of a file; None for a pipe. A Python file may have read ahead of what it has returned."""
    try:
        return os.lseek(file, 0, os.SEEK_CUR) if isinstance(file, int) else int(file.tell())
    except OSError:
        return None


def _seek(file: Any, offset: int) -> None:
    if isinstance(file, int):
        os.lseek(file, offset, os.SEEK_SET)
    else:
        file.seek(offset)


@contextmanager
def watched(loop: asyncio.AbstractEventLoop, file: Any, ready: Callable[[], object]) -> Iterator[bool]:
    """Call `ready` when the file is readable; yields False for one that always is (epoll_ctl(2): EPERM)."""
    fd = os.dup(file.fileno())
    try:
        loop.add_reader(fd, ready)
    except PermissionError:
        os.close(fd)
        yield False
        return
    try:
        yield True
    finally:
        loop.remove_reader(fd)
        os.close(fd)


@dataclass(frozen=True, slots=True)
class _Descriptor:
    fd: int

    def fileno(self) -> int:
        return self.fd


def _descriptor(file: Any) -> _Descriptor:
    return _Descriptor(file if isinstance(file, int) else file.fileno())
