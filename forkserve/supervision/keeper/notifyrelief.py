"""What processes say to their notify sockets while there is no master: read, so that nobody waits for room there.

A program that says WATCHDOG=1 each second has filled its queue soon (net.unix.max_dgram_qlen), and then sendto(2)
waits. What the next master needs is kept, and told to it with the rest.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections import defaultdict, deque
from collections.abc import Mapping
from socket import AddressFamily, SocketKind

from forkserve.unix.notify import parse

__all__ = ["NotifyRelief"]

MOST = 32
"""Messages that are kept of one process, the last."""

_LARGEST = 4096
_FDS = 16
_FLEETING = frozenset({"WATCHDOG", "BARRIER", "FDSTORE", "FDNAME", "FDPOLL", "EXTEND_TIMEOUT_USEC"})
"""What means nothing later, or nothing without the descriptors that came along."""


class NotifyRelief:
    """`fds` are the sockets among the descriptors that are held, which are given by the master's numbers."""

    def __init__(self, held: Mapping[int, int]) -> None:
        self._numbers = {fd: number for number, fd in held.items() if _takes_messages(fd)}
        self._said: defaultdict[int, deque[str]] = defaultdict(lambda: deque(maxlen=MOST))

    @property
    def fds(self) -> frozenset[int]:
        """The sockets to wait for."""
        return frozenset(self._numbers)

    def said(self) -> list[tuple[int, list[str]]]:
        """Return what was said at each socket, oldest first, by the master's numbers."""
        return [(self._numbers[fd], list(each)) for fd, each in self._said.items()]

    def take(self, fd: int) -> None:
        """Read what has come; BARRIER=1 is answered by that."""
        with socket.socket(fileno=os.dup(fd)) as own, contextlib.suppress(OSError):
            while True:
                data, fds, _, _ = socket.recv_fds(own, _LARGEST, _FDS, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
                for each in fds:
                    os.close(each)
                if parse(data).keys() - _FLEETING:
                    self._said[fd].append(data.decode("utf-8", "replace"))


def _takes_messages(fd: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as own:
        return own.family is AddressFamily.AF_UNIX and own.type is SocketKind.SOCK_DGRAM and bool(own.getsockname())
