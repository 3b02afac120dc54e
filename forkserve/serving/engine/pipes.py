"""Lines of several processes in one pipe, each unbroken.

A write of at most PIPE_BUF bytes is atomic, a longer one may be interleaved with others (pipe(7)). So lines are written
in groups that fit, under a lock on the pipe, since a single line may be longer. It is a record lock (fcntl(2)), which
belongs to a process and ends with it; one of flock(2) would belong to the open file, which the processes share.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from select import PIPE_BUF

__all__ = ["alone", "groups", "is_pipe"]


def is_pipe(fd: int) -> bool:
    """Tell whether a descriptor is that of a pipe or a FIFO."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


@contextlib.contextmanager
def alone(fd: int) -> Iterator[None]:
    """Exclude other processes that do the same; without a lock if the kernel has none to give."""
    with contextlib.suppress(OSError):
        fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.lockf(fd, fcntl.LOCK_UN)


def groups(lines: Sequence[str]) -> Iterator[str]:
    """Join lines, ASCII only, to texts that can be written at once with a line end; longer lines stay alone."""
    first = size = 0
    for number, line in enumerate(lines):
        if number > first and size + len(line) + 1 > PIPE_BUF:
            yield "\n".join(lines[first:number])
            first, size = number, 0
        size += len(line) + 1
    yield "\n".join(lines[first:])
