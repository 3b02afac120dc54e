"""How many processes a machine or a container has room for: `--workers auto`, `numprocesses = auto`.

One for each CPU that this process may use: its affinity, reduced by the quota of its control group and of its
ancestors. In a container with `--cpus 2` on a machine of 64, os.cpu_count() returns 64; cpu.max (cgroup v2) or
cpu.cfs_quota_us (v1) says 2. Also no more than fit into the group's memory at `ROOM` each (memory.max,
memory.limit_in_bytes).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from forkserve.config.cgroups import MEMBERSHIP, ROOT, UNLIMITED, control_groups, read_file

__all__ = ["ROOM", "automatic_processes", "cpus_of_quota", "usable_cpus"]

ROOM = 128 * 2**20
"""Bytes that a worker of a small application needs; for a larger one, set the number by hand."""


def automatic_processes(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int:
    """Return how many processes there is room for, at least 1."""
    rooms = [limit // ROOM for limit in _memory_limits(membership, root)]
    return max(1, min([usable_cpus(membership, root), *rooms]))


def usable_cpus(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int:
    """Return the number of CPUs, at least 1."""
    # os.sched_getaffinity is not on macOS
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *_quotas(membership, root)]))


def cpus_of_quota(text: str) -> int | None:
    """Parse a cpu.max such as `150000 100000` (2 CPUs) or `max 100000` (no limit, None); see cgroups(7)."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return max(1, math.ceil(int(quota) / int(period)))


def _quotas(membership: Path, root: Path) -> Iterator[int]:
    for folder in control_groups(membership, root, "cpu"):
        text = (
            read_file(folder / "cpu.max")
            or f"{read_file(folder / 'cpu.cfs_quota_us')} {read_file(folder / 'cpu.cfs_period_us')}"
        )
        quota = cpus_of_quota(text)
        if quota is not None:
            yield quota


def _memory_limits(membership: Path, root: Path) -> Iterator[int]:
    for folder in control_groups(membership, root, "memory"):
        text = read_file(folder / "memory.max") or read_file(folder / "memory.limit_in_bytes")
        if text.isdecimal() and 0 < int(text) < UNLIMITED:
            yield int(text)
