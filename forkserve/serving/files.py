"""wsgi.file_wrapper: an iterable over a file-like object, and what of it can go out by sendfile(2)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

__all__ = ["FileWrapper"]


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
        """Return where the object stands in its regular file and how many bytes follow; None if it is no such file.

        A text file is none, as its position is opaque; nor is a file opened by a compressing reader, which names the
        descriptor of the packed data: so only what io itself opened for reading counts.
        """
        try:
            if type(self.filelike).__module__ not in ("_io", "io", "tempfile") or "b" not in self.filelike.mode:
                return None
            described = os.fstat(self.filelike.fileno())
            offset = self.filelike.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(described.st_mode):
            return None
        return offset, max(0, described.st_size - offset)


def _nothing() -> None:
    """Nothing to close."""
