"""The numbered names of a log file that is rotated: PATH.1 is the newest, PATH.2 the one before.

Rules: plain calls of the kernel, which may take as long as the disk does.
"""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["is_open_file", "shift"]


def shift(path: str, backup_count: int) -> None:
    """Rename PATH to PATH.1, PATH.1 to PATH.2 and so on; the oldest is removed, and without backups PATH itself.

    Raises OSError.
    """
    if not backup_count:
        os.unlink(path)
    for number in range(backup_count, 0, -1):
        source = f"{path}.{number - 1}" if number > 1 else path
        with contextlib.suppress(FileNotFoundError):
            os.replace(source, f"{path}.{number}")


def is_open_file(path: str, fd: int) -> bool:
    """Tell whether a path is a regular file, and the open one: not /dev/stdout, a FIFO or a link."""
    try:
        found = os.lstat(path)
        return stat.S_ISREG(found.st_mode) and os.path.samestat(found, os.fstat(fd))
    except OSError:
        return False
