"""Ends everything when the master is killed with -9.

PR_SET_PDEATHSIG reaches a child, not its grandchildren, and no program that ignores it. So a guardian, a small process
of our own in a session of its own, holds a pipe from the master, which tells it each process group that begins and
ends. End of file means that the master is gone without goodbye: the guardian sends every group its stop signal, waits
as long as the longest grace, and kills what is left. It holds no socket of ours, so the ports are free at once. Forked
and not executed, it shares its pages with the master.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time

from forkserve.unix.proctitle import set_title

__all__ = ["Guard"]

_RECORD = struct.Struct("=iid")
"""Process group, stop signal (0: this group has ended), grace in seconds."""


class Guard:
    """The master's end of the pipe; `pid` is the guardian's, a child like any other, to be reaped at the end."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            _guard(reading)
        os.close(reading)
        os.set_blocking(self._writing, False)

    def began(self, pgid: int, stop_signal: int, grace: float) -> None:
        """A group that must not outlive us has begun. `grace` is in seconds."""
        self._tell(pgid, stop_signal, grace)

    def ended(self, pgid: int) -> None:
        """A group has ended, and its number may be given to strangers."""
        self._tell(pgid, 0, 0.0)

    def _tell(self, pgid: int, stop_signal: int, grace: float) -> None:
        # A full pipe means that the guardian is stopped or starved; supervision goes on without it.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._writing, _RECORD.pack(pgid, stop_signal, grace))

    def close(self) -> None:
        """Send the guardian home: with no group left on its list it ends at once."""
        os.close(self._writing)


def _guard(reading: int) -> None:
    """Wait for the end. Runs in the guardian and never returns."""
    try:
        os.setsid()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(signum, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.dup2(reading, 3)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        set_title("forkserve: guard")
        _end(_listen(3))
    finally:
        os._exit(0)


def _listen(reading: int) -> dict[int, tuple[int, float]]:
    """Keep the list until the master is gone, and return it."""
    groups: dict[int, tuple[int, float]] = {}
    while record := os.read(reading, _RECORD.size):
        pgid, stop_signal, grace = _RECORD.unpack(record)
        if stop_signal:
            groups[pgid] = (stop_signal, grace)
        else:
            groups.pop(pgid, None)
    return groups


def _end(groups: dict[int, tuple[int, float]]) -> None:
    deadline = time.monotonic() + max((grace for _, grace in groups.values()), default=0.0)
    for pgid, (stop_signal, _) in groups.items():
        _signal_group(pgid, stop_signal)
    while groups and time.monotonic() < deadline:
        # These are no children of ours, so their end is no event here; twenty looks a second, for seconds.
        select.select((), (), (), 0.05)
        groups = {pgid: each for pgid, each in groups.items() if _signal_group(pgid, 0)}
    for pgid in groups:
        _signal_group(pgid, signal.SIGKILL)


def _signal_group(pgid: int, signum: int) -> bool:
    try:
        os.killpg(pgid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
