"""Signals as a queue of numbers, read in the loop: handlers do nothing but wake it (the self-pipe, by wakeup fd)."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterable
from types import FrameType

__all__ = ["SignalQueue"]


class SignalQueue:
    """Catches signals from construction to `close`, which restores what was there before."""

    def __init__(self, signums: Iterable[int]) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._previous = {signum: signal.signal(signum, _nothing) for signum in signums}

    def fileno(self) -> int:
        """Return the descriptor that is readable when signals wait."""
        return self._ours.fileno()

    def take(self) -> list[int]:
        """Return the numbers of the signals that have come, in order; SIGCHLD may stand for many deaths (signal(7))."""
        taken = bytearray()
        with contextlib.suppress(BlockingIOError):
            while data := self._ours.recv(4096):
                taken += data
        return list(taken)

    def close(self) -> None:
        """Restore the previous handlers."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_fd)
        self._ours.close()
        self._theirs.close()


def _nothing(_signum: int, _frame: FrameType | None) -> None:
    """Exist, so that Python writes the number to the wakeup fd."""
