"""Memory and CPU time of processes, from /proc (proc_pid_stat(5), proc_pid_smaps(5)).

Rules: `resident` and `processor_seconds` read one small file each. `proportional` makes the kernel walk all pages of a
process while it holds its map, which takes milliseconds: it is called aside.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

__all__ = ["processor_seconds", "proportional", "resident"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> bytes:
    """Return a small file of /proc; a file object would cost more than all the rest."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def resident(pid: int) -> int | None:
    """Return the resident set of a process in bytes; None if it has ended."""
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def processor_seconds(pid: int) -> float | None:
    """Return the seconds that a process has run on any processor; None if it has ended."""
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return None


def proportional(pids: Iterable[int]) -> Mapping[int, int]:
    """Return the proportional set size of each process in bytes: shared pages are divided among those that share them.

    Processes that have ended, or are not readable, are left out.
    """
    found = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                found[pid] = next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        except (OSError, ValueError, IndexError, StopIteration):
            continue
    return found
