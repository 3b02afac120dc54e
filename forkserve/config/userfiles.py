"""Reads files that a user has named: configurations, certificates, sources.

Rules: a name may be mistyped, or be that of a FIFO or a device, where a read may block for ever or never end. So only a
regular file is read, and no more of it than such a file can have. /dev/stdin and the shell's `<(...)` are refused as
well: a reload would find them empty.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_file", "read_text"]

_READ = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC
_MOST = 16 * 1024 * 1024
"""Bytes; the largest known configurations, and bundles of certificates, have some hundred thousand."""


def read_file(path: str | Path, most: int = _MOST) -> bytes:
    """Return the content of a regular file.

    Raises OSError; its `strerror` also says that it is not a regular file, or has more than `most` bytes.
    """
    try:
        fd = os.open(path, _READ | os.O_NONBLOCK)
    except BlockingIOError:  # a lease is to be given back first (fcntl(2)), which only a regular file can have
        fd = os.open(path, _READ)
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):  # of which fdopen would say the number of the descriptor
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB", str(path))
    return data


def read_text(path: str | Path) -> str:
    """Return the content of a UTF-8 file, with Python's line ends; raises OSError and UnicodeDecodeError."""
    return read_file(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
