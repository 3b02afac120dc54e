"""The stop signals of a foreign worker, and its notifications to the master."""

from __future__ import annotations

import os
import signal
import socket
import struct
from _thread import start_new_thread  # the real one: gevent replaces it in `threading`
from contextlib import suppress
from select import select
from typing import TYPE_CHECKING

from .mistakes import TIMED_OUT

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Drain", "notify"]

QUICK = 1.0  # seconds that SIGINT leaves


class Drain:
    """The stop signals as a readable descriptor, and the deadline that starts with them.

    CPython's C handler writes the signal number (signal.set_wakeup_fd), so it arrives even while a C loop runs and no
    Python does.
    """

    def __init__(self, graceful: float) -> None:
        self.graceful = graceful
        self.begun = False
        read, write = os.pipe()
        self.fds = [read]
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.listen()

    def listen(self) -> None:
        """Install the handlers; called again after a library has installed its own."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, self._noted)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # reopen logs: there are none

    def _noted(self, number: int, frame: object) -> None:
        """Do nothing: the wakeup descriptor has the number."""

    def take(self) -> bool:
        """Read the signals that arrived; True if one asks to stop. The first such signal starts the deadline."""
        try:
            numbers = os.read(self.fds[0], 64)
        except BlockingIOError:
            return self.begun
        if signal.SIGINT in numbers:
            self.graceful = min(self.graceful, QUICK)
        if {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT} & set(numbers) and not self.begun:
            self.begun = True
            start_new_thread(self._deadline, ())
        return self.begun

    def _deadline(self) -> None:
        select([], [], [], self.graceful)
        os.write(2, b"forkserve-worker: requests still in flight at the end of the graceful timeout were cut\n")
        os._exit(TIMED_OUT)

    def ready(self) -> None:
        """Tell the master that the worker accepts connections."""
        notify("READY=1")

    def wait(self) -> None:
        """Block until a stop signal."""
        while not self.take():
            select(self.fds, [], [])

    def call(self, stop: Callable[[], object]) -> None:
        """Call `stop` in a new thread at the stop signal."""

        def waiting() -> None:
            self.wait()
            stop()

        start_new_thread(waiting, ())


def notify(text: str) -> None:
    """Send `text` to $NOTIFY_SOCKET, if set; a master that has gone is no error. Waits up to 5 s for room."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] in ("/", "@"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 5, 0))
            sock.sendto(text.encode(), "\0" + path[1:] if path[0] == "@" else path)
