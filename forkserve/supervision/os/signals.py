"""Signals as a queue of numbers, read in the loop: handlers record the number, and the wakeup fd ends the wait.

The byte that Python writes to the wakeup fd does not matter: a flood fills the pipe, and further bytes are dropped. The
handler runs for each kind of signal at least once after its last arrival, so none is lost for good.

A blocked signal stays blocked through exec (sigprocmask(2)), and a parent may have left some so: those that the master
handles are unblocked, after their handlers have been installed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from types import FrameType

__all__ = ["SIGNALS", "SignalQueue", "has_terminal"]


SIGNALS: Mapping[int, str] = {
    signal.SIGTERM: "stop; a second time: shorten its delays",
    signal.SIGQUIT: "stop; a second time: shorten its delays",
    signal.SIGINT: "stop; a second time: end at once",
    signal.SIGHUP: "read the configuration again, replace processes one by one",
    signal.SIGUSR1: "reopen log files",
    signal.SIGUSR2: "replace forkserve itself by what is installed now",
    signal.SIGWINCH: "stop the watchers with sockets, keep the sockets; HUP starts them again; at a terminal: nothing",
    signal.SIGTTIN: "one process more in the first watcher with sockets",
    signal.SIGTTOU: "one process less there",
    signal.SIGCHLD: "collect the dead",
}
"""What each signal does to the master; any other one has its default effect."""


class SignalQueue:
    """Catches signals from construction to `close`, which restores the previous handlers.

    With `blocked`, signals that are blocked stay so, and wait.
    """

    def __init__(self, signums: Iterable[int], *, blocked: bool = False) -> None:
        self._come: deque[int] = deque()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._previous = {signum: signal.signal(signum, self._note) for signum in signums}
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, () if blocked else self._previous)

    def fileno(self) -> int:
        """Return the descriptor that is readable when signals wait."""
        return self._ours.fileno()

    def take(self) -> list[int]:
        """Return the numbers of the signals that have arrived, in order; one may stand for several (signal(7))."""
        with contextlib.suppress(BlockingIOError):
            # Emptied before the numbers are taken: a signal between the two is noted here and wakes us once more.
            while self._ours.recv(4096):
                pass
        taken: list[int] = []
        while self._come:
            taken.append(self._come.popleft())
        return taken

    def put(self, taken: Iterable[int]) -> None:
        """Put back, in front, what was taken and has not been acted on."""
        self._come.extendleft(reversed(list(taken)))
        with contextlib.suppress(BlockingIOError):
            self._theirs.send(b"\0")

    def close(self) -> None:
        """Restore the previous handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._mask & self._previous.keys())
        for signum, handler in self._previous.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_fd)
        self._ours.close()
        self._theirs.close()

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self._come.append(signum)


def has_terminal() -> bool:
    """Tell whether this process has a controlling terminal, which sends signals that were not meant for it (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
