"""Executes another program in the place of this process: its pid, children, sockets and signals stay.

Theory of operation. The state travels in a memfd, sealed so that it cannot change any more (memfd_create(2)). What
execve(2) keeps is kept: the pid, children, pending signals and the signal mask, resource limits, the umask, the
attribute of being a subreaper (PR_SET_CHILD_SUBREAPER), and the descriptors that are not closed on exec. All signals
are blocked before, so that new ones wait for the handlers of the new program.

Rules: `become` returns only by raising OSError, and then nothing has changed.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

__all__ = ["become", "block_all", "read_sealed", "sealed"]

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_NAME = "forkserve-state"
LARGEST = 256 * 1024 * 1024
"""Most bytes of a state: a hundred watchers of eight processes each take one million."""


def sealed(data: bytes) -> int:
    """Return a descriptor of memory with this content, which cannot be changed; raises OSError."""
    fd = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_sealed(fd: int) -> bytes:
    """Return the content of sealed memory; raises ValueError if the descriptor is another kind, OSError if it is not
    open.

    Its position is not moved, so that another process can read it as well.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ValueError(f"descriptor {fd} holds no state: {error.strerror}") from None
    size = os.fstat(fd).st_size
    if seals & _SEALS != _SEALS or size > LARGEST:
        raise ValueError(f"descriptor {fd} holds no sealed state")
    parts: list[bytes] = []
    position = 0
    while position < size:
        parts.append(os.pread(fd, size - position, position))
        position += len(parts[-1])
    return b"".join(parts)


def block_all() -> set[int]:
    """Block all signals, and return which were blocked before; handlers of earlier ones have run then."""
    return {int(each) for each in signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())}


def become(argv: Sequence[str], environ: Mapping[str, str], kept: Collection[int]) -> NoReturn:
    """Execute a program that has these descriptors open besides those inherited anyway; raises OSError."""
    changed = [fd for fd in kept if not os.get_inheritable(fd)]
    try:
        for fd in changed:
            os.set_inheritable(fd, True)
        os.execve(argv[0], list(argv), environ)
    finally:
        for fd in changed:
            os.set_inheritable(fd, False)
