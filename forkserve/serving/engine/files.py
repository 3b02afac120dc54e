"""Part of a file on its way to a client, by sendfile(2): the bytes never pass through Python."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

__all__ = ["FilePart"]

AT_ONCE = 1 << 20
"""Bytes sent by one call, so that a fast reader does not keep the loop from others."""

BLOCK = 65_536
"""Bytes read at once if TLS has to encrypt them."""


class FilePart:
    """`count` bytes from `offset` of the file behind a descriptor, which the part owns."""

    __slots__ = ("count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count

    def __len__(self) -> int:
        return self.count

    def send(self, fd: int, encrypt: Callable[[bytes], int] | None = None) -> int:
        """Send what the socket `fd` takes now and advance; returns how much that was. Raises OSError.

        `encrypt` sends bytes under TLS, which must see them, so sendfile(2) is impossible.
        """
        if encrypt is None:
            sent = os.sendfile(fd, self.fd, self.offset, min(self.count, AT_ONCE))
        else:
            block = os.pread(self.fd, min(self.count, BLOCK), self.offset)
            sent = encrypt(block) if block else 0
        if not sent:
            raise ConnectionAbortedError(errno.EIO, "the file was truncated while it was sent")
        self.offset += sent
        self.count -= sent
        return sent

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)
