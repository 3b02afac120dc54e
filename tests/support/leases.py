"""A file whose readers wait, as on a file system that has gone: it is under a lease (fcntl(2), F_SETLEASE)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["unreadable"]


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Have everybody who opens a file wait until the block ends, or for the 45 s of /proc/sys/fs/lease-break-time."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_WRONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)
