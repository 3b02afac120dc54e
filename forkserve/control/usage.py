"""What a process uses, read from /proc when somebody wants to know, and never otherwise.

One file has what a status shows (proc_pid_stat(5)), some 20 us each; descriptors and children, which only stats show,
cost a folder and a file for each thread. Nothing here looks at other processes than the one that is asked about: a walk
over the table of all, for each of hundreds, took seconds of the master's time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Meter", "Usage"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Places in /proc/PID/stat after the name.
_UTIME, _STIME, _THREADS, _START, _RSS = 11, 12, 17, 19, 21


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in percent of one core, `memory` is the resident set in bytes; the rest is None unless asked for closely.

    `children` are direct ones; None where the kernel does not tell (CONFIG_PROC_CHILDREN).
    """

    cpu: float
    memory: int
    threads: int
    fds: int | None = None
    children: int | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """CPU time used up to an instant by the process that began at `start`, all in seconds since the machine did."""

    start: float
    at: float
    used: float


class Meter:
    """Measures processes; CPU is that since the last question, and at the first one since the process began."""

    def __init__(self) -> None:
        self._known: dict[int, _Look] = {}

    def measure(self, pid: int, *, closely: bool = False) -> Usage | None:
        """Return what one process uses now; None when it has gone, or is not ours to look at."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            used = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS
            look = _Look(int(fields[_START]) / _TICKS, now, used)
            before = self._known.get(pid)
            if before is None or before.start != look.start:  # the pid has come again
                before = _Look(look.start, look.start, 0.0)
            self._known[pid] = look
            cpu = max(0.0, 100 * (look.used - before.used) / max(look.at - before.at, 0.01))
            fds = len(os.listdir(f"/proc/{pid}/fd")) if closely else None
            children = _children(pid) if closely else None
            return Usage(round(cpu, 1), int(fields[_RSS]) * _PAGE, int(fields[_THREADS]), fds, children)
        except (OSError, ValueError, IndexError):
            self._known.pop(pid, None)
            return None

    def forget_all_but(self, pids: Iterable[int]) -> None:
        """Drop what is remembered of processes that have ended."""
        alive = set(pids)
        self._known = {pid: look for pid, look in self._known.items() if pid in alive}


def _children(pid: int) -> int | None:
    try:
        return sum(
            len(Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
            for thread in os.listdir(f"/proc/{pid}/task")
        )
    except FileNotFoundError:
        return None
