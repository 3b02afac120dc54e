"""What a server's processes cost: CPU time, memory, context switches, read from /proc (proc(5)).

A server is the process we started and all that descend from it. Processes may end between two reads; they then count
as nothing.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Usage", "descendants", "foreign_cores", "memory", "switches", "tree", "usage"]

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and kernel context switches of a tree, since its start."""

    cpu: float
    switches: int


def tree(pid: int) -> list[psutil.Process]:
    """Return the process and its descendants, oldest first; empty when it is gone."""
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def descendants(pid: int) -> list[int]:
    """Return the pids below a process."""
    return [process.pid for process in tree(pid)[1:]]


def _cpu(pid: int) -> float:
    """Return utime+stime+cutime+cstime: reaped children go on counting in their parent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICK


def switches(pid: int) -> int:
    """Count voluntary and forced context switches of all threads of a process."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith(("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")):
                total += int(line.split()[1])
    return total


def usage(pid: int) -> Usage:
    """Add up the tree below and with `pid`."""
    cpu, count = 0.0, 0
    for process in tree(pid):
        with contextlib.suppress(OSError):
            cpu += _cpu(process.pid)
            count += switches(process.pid)
    return Usage(cpu, count)


def memory(pid: int) -> tuple[float, float]:
    """Return PSS and RSS of the tree in MiB. PSS shares a page among those who map it, so that sums are true."""
    pss = rss = 0
    for process in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1])
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1])
    return pss / 1024, rss / 1024


def busy_seconds() -> float:
    """Return the seconds that all cores together were not idle, since boot (steal and irq included)."""
    fields = [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICK


def foreign_cores(busy: float, own: float, seconds: float) -> float:
    """Return how many cores others kept busy meanwhile: the noise of a measurement, never below 0."""
    return max(0.0, (busy - own) / seconds) if seconds > 0 else 0.0
