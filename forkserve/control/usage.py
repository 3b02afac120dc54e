"""What a process uses, read from /proc on request only.

One file has what a status shows (proc_pid_stat(5)), some 20 us each; the proportional set, descriptors and children,
which only stats show, cost milliseconds for a large process. So all of it is read by the sampler, aside from the loop.
Only the requested process and its children are examined.
"""

from __future__ import annotations

import os
import pwd
import time
from dataclasses import dataclass
from pathlib import Path

from forkserve.control.schema.reports import UsageReport
from forkserve.supervision.os.usage import proportional

__all__ = ["Meter", "child_pids"]

DEEPEST = 16
"""Generations of children that are examined below a process."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Places in /proc/PID/stat after the name.
_UTIME, _STIME, _NICE, _THREADS, _START, _VSIZE, _RSS = 11, 12, 16, 17, 19, 20, 21


@dataclass(frozen=True, slots=True)
class _Look:
    """CPU time used up to an instant by the process that began at `start`, all in seconds since the machine did."""

    start: float
    at: float
    used: float


class Meter:
    """Measures processes; CPU is that since the last request, and for the first one since the process began."""

    def __init__(self) -> None:
        self._before: dict[int, _Look] = {}
        self._now: dict[int, _Look] = {}

    def measure(self, pid: int, *, closely: bool = False) -> UsageReport | None:
        """Return what one process uses now; None if it has ended, or is not readable."""
        return self._measure(pid, closely=closely, depth=DEEPEST if closely else -1)

    def _measure(self, pid: int, *, closely: bool, depth: int) -> UsageReport | None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            cpu, look = self._cpu(pid, fields)
            return UsageReport(
                pid=pid,
                cpu=cpu,
                memory=int(fields[_RSS]) * _PAGE,
                threads=int(fields[_THREADS]),
                age=round(max(0.0, look.at - look.start), 3),
                cpu_time=round(look.used, 2),
                virtual=int(fields[_VSIZE]),
                nice=int(fields[_NICE]),
                pss=proportional((pid,)).get(pid) if closely else None,
                fds=_fds(pid) if closely else None,
                program=_program(pid) if closely else None,
                user=_user(pid) if closely else None,
                children=self._children(pid, depth - 1) if depth >= 0 else None,
            )
        except (OSError, ValueError, IndexError):
            return None

    def _cpu(self, pid: int, fields: list[bytes]) -> tuple[float, _Look]:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        used = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS
        look = _Look(int(fields[_START]) / _TICKS, now, used)
        before = self._now.get(pid) or self._before.get(pid)
        if before is None or before.start != look.start:  # the pid has come again
            before = _Look(look.start, look.start, 0.0)
        self._now[pid] = look
        cpu = max(0.0, 100 * (look.used - before.used) / max(look.at - before.at, 0.01))
        return round(cpu, 1), look

    def _children(self, pid: int, depth: int) -> list[UsageReport] | None:
        pids = child_pids(pid)
        if pids is None:
            return None
        found = (self._measure(each, closely=True, depth=depth) for each in pids)
        return [each for each in found if each is not None]

    def turn(self) -> None:
        """Begin another round: what is not measured in it is forgotten after it."""
        self._before, self._now = self._now, {}


def child_pids(pid: int) -> list[int] | None:
    """Return the direct children of a process; None if the kernel does not tell."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        found = (Path(f"/proc/{pid}/task/{thread}/children").read_bytes() for thread in threads)
        return [int(each) for line in found for each in line.split()]
    except FileNotFoundError:
        return None


def _fds(pid: int) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return None


def _program(pid: int) -> str:
    first = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return os.path.basename(first.decode(errors="replace").partition(" ")[0]).rstrip(":")


def _user(pid: int) -> str:
    uid = os.stat(f"/proc/{pid}").st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
