"""Which of the master's own outputs, 1 and 2, are captured on their way: those to a file or a service manager.

A terminal is left to the processes, which look for one (isatty(3)) and buffer lines for it, and a pipe to whatever
reads it, which may want the lines in the order in which they were written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from forkserve.config.masteroptions import Capture

__all__ = ["own_outputs"]


def own_outputs(capture: Capture, environ: Mapping[str, str], *, detached: bool) -> tuple[int, ...]:
    """Return the descriptors to capture; `detached` means that forkserve has gone to the background."""
    return tuple(fd for fd in (1, 2) if _is_captured(fd, capture, environ, detached))


def _is_captured(fd: int, capture: Capture, environ: Mapping[str, str], detached: bool) -> bool:
    try:
        found = os.fstat(fd)
    except OSError:  # closed
        return False
    if capture is not Capture.AUTO:
        return capture is Capture.ON
    if os.isatty(fd):
        return False
    # systemd.exec(5): the device and the inode of the journal's socket
    is_journal = environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return stat.S_ISREG(found.st_mode) or is_journal or detached or os.getpid() == 1
