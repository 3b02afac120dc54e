"""The control groups of this process, and the memory that they leave; see cgroups(7).

Rules: a file that is missing, or has an unexpected content, is no limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["MEMBERSHIP", "ROOT", "UNLIMITED", "control_groups", "read_file", "spare_memory"]

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60
"""Above this a limit of cgroup v1 means that there is none."""
_MACHINE = Path("/proc/meminfo")
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""For cgroup v2 and v1: the limit, the usage, and the part of it that the kernel reclaims first (memory.stat)."""


def control_groups(membership: Path, root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of our control group and its ancestors: of v2, and of v1 if it has this controller.

    In a container the path of the membership may be that of the host, and the group is at the root.
    """
    for line in read_file(membership).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            top = root
        elif controller in names.split(","):
            top = next((root / each for each in (names, controller) if (root / each).is_dir()), root / controller)
        else:
            continue
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def spare_memory(membership: Path = MEMBERSHIP, root: Path = ROOT, machine: Path = _MACHINE) -> float:
    """Return the share of memory that is free, 0 to 1: of the machine or of a control group, whichever is less."""
    shares = [_spare_in(folder) for folder in control_groups(membership, root, "memory")]
    return max(0.0, min([_spare_of(machine), *shares]))


def _spare_of(machine: Path) -> float:
    """Return the share of MemTotal that is MemAvailable (proc_meminfo(5), Linux 3.14)."""
    figures = _figures(read_file(machine))
    return figures.get("MemAvailable:", 1) / max(figures.get("MemTotal:", 1), 1)


def _spare_in(folder: Path) -> float:
    for limit_name, usage_name, inactive_name in _FILES:
        limit, usage = read_file(folder / limit_name), read_file(folder / usage_name)
        if limit.isdecimal() and usage.isdecimal() and 0 < int(limit) < UNLIMITED:
            inactive = _figures(read_file(folder / "memory.stat")).get(inactive_name, 0)
            return 1 - (int(usage) - inactive) / int(limit)
    return 1.0


def _figures(text: str) -> dict[str, int]:
    words = (line.split() for line in text.splitlines())
    return {each[0]: int(each[1]) for each in words if len(each) > 1 and each[1].isdecimal()}


def read_file(path: Path) -> str:
    """Return the text of a small file of the kernel, empty if it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
