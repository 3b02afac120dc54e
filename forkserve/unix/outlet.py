"""Writes to a descriptor that others share, without waiting for its reader.

O_NONBLOCK belongs to the open file, so setting it on an inherited stderr would change it for the shell and for all our
processes. A pipe or a terminal is opened again by /proc instead, which gives a separate open file; a socket has a flag
for each call. If neither is possible (a pipe that another user has created), poll(2) says that a page is free, and what
is written then is at most PIPE_BUF, which fits.

A line may be logged where gevent cannot switch, as in a signal handler that has interrupted its hub. So poll(2) and
the socket are those from before a monkey patch, bound when this module is imported.

A background job that writes to its terminal under `stty tostop` would get SIGTTOU, and the write would be repeated
after each handler, for ever: the signal is blocked meanwhile, and then the line is written (termios(3)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from select import PIPE_BUF, POLLOUT, poll
from socket import MSG_DONTWAIT, MSG_NOSIGNAL
from socket import socket as Socket

__all__ = ["Outlet"]


class Outlet:
    """Writes to `fd`, which stays the caller's. `patience` is how many seconds a line may wait for a reader.

    After a wait in vain, the next lines do not wait until one has been written.
    """

    def __init__(self, fd: int, *, patience: float = 0.0) -> None:
        self._fd = fd
        self._patience = patience
        self._stuck = False
        self._identity: tuple[int, int] | None = None
        self._own = -1
        self._socket: Socket | None = None
        self._waits = self._is_terminal = False

    def write(self, data: bytes) -> int:
        """Return how many bytes were written, by whole lines if they are short; raises OSError, never to wait."""
        self._identify()
        deadline = time.monotonic() + (0.0 if self._stuck else self._patience)
        sent = 0
        while sent < len(data):
            try:
                sent += self._write(self._portion(data, sent))
            except BlockingIOError:
                left = deadline - time.monotonic()
                self._stuck = left <= 0 or not self._has_room(left)
                if self._stuck:
                    return sent
        self._stuck = False
        return sent

    def close(self) -> None:
        """Close our own descriptor."""
        if self._own >= 0:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()
        self._own, self._socket, self._identity = -1, None, None

    def _identify(self) -> None:
        """Check what the descriptor is; a daemon puts another file there."""
        found = os.fstat(self._fd)
        if self._identity == (found.st_dev, found.st_ino):
            return
        self.close()
        kind = found.st_mode
        self._waits = stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind)
        self._is_terminal = stat.S_ISCHR(kind) and os.isatty(self._fd)
        if stat.S_ISSOCK(kind):
            self._socket = Socket(fileno=os.dup(self._fd))
        elif self._waits:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            with contextlib.suppress(OSError):
                self._own = os.open(f"/proc/self/fd/{self._fd}", flags)
        self._identity = found.st_dev, found.st_ino

    def _portion(self, data: bytes, start: int) -> bytes:
        if not self._waits or len(data) - start <= PIPE_BUF:
            return data[start:]
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1
        return data[start : end or start + PIPE_BUF]

    def _write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)
        if self._own < 0 and self._waits and not self._has_room(0.0):
            raise BlockingIOError
        if not self._is_terminal:
            return os.write(self._fd if self._own < 0 else self._own, data)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            return os.write(self._fd if self._own < 0 else self._own, data)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _has_room(self, seconds: float) -> bool:
        waiting = poll()
        waiting.register(self._fd, POLLOUT)
        return bool(waiting.poll(seconds * 1000))
