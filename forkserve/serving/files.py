"""wsgi.file_wrapper: an iterable over a file-like object, and the part of it that sendfile(2) can send."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from tempfile import _TemporaryFileWrapper
from typing import Any

__all__ = ["FileWrapper"]

_BUFFERED = (io.BufferedReader, io.BufferedRandom)


class FileWrapper:
    """What PEP 3333 calls `environ['wsgi.file_wrapper']`; `filelike` needs nothing but `read`."""

    __slots__ = ("block_size", "close", "filelike")

    def __init__(self, filelike: Any, block_size: int = 65_536) -> None:
        self.filelike = filelike
        self.block_size = block_size
        self.close = getattr(filelike, "close", _nothing)

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.block_size):
            yield block

    def part(self) -> tuple[int, int] | None:
        """Return where the object stands in its regular file and how many bytes follow.

        None unless these are certain to be the bytes that `read` returns. The size of a file without blocks on disk may
        say nothing: files of /proc have size 0, those of /sys that of a page.
        """
        try:
            if not _reads_as_stored(self.filelike):
                return None
            described = os.fstat(self.filelike.fileno())
            offset = self.filelike.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(described.st_mode) or not described.st_blocks:
            return None
        return offset, max(0, described.st_size - offset)


def _reads_as_stored(filelike: Any) -> bool:
    """Whether `read` is that of io itself, on a descriptor: not one of a subclass, or of a decompressing reader."""
    file: Any = filelike.file if type(filelike) is _TemporaryFileWrapper else filelike
    raw = file.raw if type(file) in _BUFFERED else file
    return type(raw) is io.FileIO and raw.readable() and not any("read" in vars(each) for each in (file, raw))


def _nothing() -> None:
    """Nothing to close."""
