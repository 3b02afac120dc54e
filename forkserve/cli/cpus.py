"""How many CPUs this process may use, for `--workers auto`: its affinity, cut by the quota of its control group.

A container with `--cpus 2` on a machine of 64 shows 64 to os.cpu_count(); cgroup v2's cpu.max says 2.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["cpus_of_quota", "usable_cpus"]

_ROOT = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Return the number of CPUs, at least 1."""
    # os.sched_getaffinity is not on macOS
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *_quotas(Path("/proc/self/cgroup"), _ROOT)]))


def cpus_of_quota(text: str) -> int | None:
    """Read a cpu.max such as `150000 100000` (2 CPUs) or `max 100000` (no limit, None); see cgroups(7)."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return max(1, math.ceil(int(quota) / int(period)))


def _quotas(membership: Path, root: Path) -> list[int]:
    """Return the quotas of our control group and of those above it."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = root / path
    found: list[int] = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            break
        try:
            quota = cpus_of_quota((folder / "cpu.max").read_text())
        except OSError:
            continue
        if quota is not None:
            found.append(quota)
    return found
