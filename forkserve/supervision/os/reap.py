"""Collects every child that has ended, ours or adopted, until there is none (waitpid(2)).

One SIGCHLD may stand for many deaths, so a caller reaps until the kernel reports no more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from forkserve.wording import signal_name

__all__ = ["Exit", "reap", "reap_one"]


@dataclass(frozen=True, slots=True)
class Exit:
    """How one process ended: by an exit code, or by a signal; the other is None. Both are None if the end was
    missed.
    """

    pid: int
    code: int | None
    signum: int | None
    dumped: bool = False

    def __str__(self) -> str:
        if self.code is None and self.signum is None:
            return "ended in an unknown way"
        if self.signum is None:
            return f"exited with code {self.code}"
        return f"was ended by {signal_name(self.signum)}" + (" (core dumped)" if self.dumped else "")


def reap(most: int) -> list[Exit]:
    """Return the exits of children that have ended, strangers included, up to a maximum; never blocks."""
    exits: list[Exit] = []
    while len(exits) < most and (found := reap_one(-1)) is not None:
        exits.append(found)
    return exits


def reap_one(pid: int) -> Exit | None:
    """Return the exit of one child (-1: of any), or None while it is alive or if there is no such child; never
    blocks.
    """
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if ended == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return Exit(ended, code, None)
    return Exit(ended, None, -code, os.WCOREDUMP(status))
