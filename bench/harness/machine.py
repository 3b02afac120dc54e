"""What the figures were made on: processor, kernel, versions. Read once, written into every report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.harness.pinning import Pins
from forkserve.serving import native as compiled

__all__ = ["Machine", "inspect", "version_of"]


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the tools of one run."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    system: str
    governor: str
    python: str
    pins: str
    load_before: float
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def _first_line(path: str, key: str = "", default: str = "unknown") -> str:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip() if key else line.strip()
    except OSError:
        return default
    return default


def version_of(distribution: str) -> str:
    """Return the installed version of a Python distribution, or of nginx, or "not installed"."""
    if distribution == "nginx":
        return _tool_version(
            shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin") or "nginx", "-v"
        ).rpartition("/")[2]
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _tool_version(*command: str) -> str:
    """Return the first line that a tool prints about itself (wrk exits 1 for -v)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "not installed"
    return (done.stdout + done.stderr).strip().partition("\n")[0].partition(" Copyright")[0]


def _revision(*paths: str) -> str:
    """Return the last commit that touched these paths of the checkout, with a + when they were changed since."""
    git = ("git", "-C", str(Path(__file__).parents[2]))
    commit = _tool_version(*git, "log", "-1", "--format=%h", "--", *paths)
    changed = _tool_version(*git, "status", "--porcelain", "--", *paths)
    return commit + "+" * bool(changed) if commit.isalnum() else "not under git"


def _ours() -> str:
    """Return forkserve's version, which revision that is, and whether it was built with a C compiler."""
    way = "compiled" if compiled.hot else "Python alone"
    return f"{version_of('forkserve')} ({_revision('forkserve', 'hatch_build.py', 'pyproject.toml')}, {way})"


def inspect(pins: Pins, distributions: list[str], *, nginx: str, wrk: str) -> Machine:
    """Look at the machine and at the versions of everything that takes part."""
    versions = {name: version_of(name) for name in sorted(set(distributions))}
    versions |= {"forkserve": _ours(), "bench": _revision("bench")}
    versions["nginx"] = _tool_version(nginx, "-v").rpartition("/")[2]
    versions["wrk"] = _tool_version(wrk, "-v")
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return Machine(
        processor=_first_line("/proc/cpuinfo", "model name", platform.machine()),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        system=release.get("PRETTY_NAME", "unknown"),
        governor=_first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        pins=pins.describe(),
        load_before=round(os.getloadavg()[0], 2),
        versions=versions,
    )
