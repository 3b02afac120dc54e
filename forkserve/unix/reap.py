"""Collects the dead: every child that has ended, ours or adopted, until there is none (waitpid(2))."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

__all__ = ["Exit", "reap"]


@dataclass(frozen=True, slots=True)
class Exit:
    """How one process ended: by an exit code, or by a signal."""

    pid: int
    code: int | None
    signum: int | None

    def __str__(self) -> str:
        if self.signum is None:
            return f"exited with code {self.code}"
        try:
            name = signal.Signals(self.signum).name
        except ValueError:  # a real-time signal has no name of its own
            name = f"signal {self.signum}"
        return f"was ended by {name}"


def reap() -> list[Exit]:
    """Return the exits of all children that have ended since the last call; never blocks."""
    exits: list[Exit] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return exits
        if pid == 0:
            return exits
        code = os.waitstatus_to_exitcode(status)
        exits.append(Exit(pid, code, None) if code >= 0 else Exit(pid, None, -code))
