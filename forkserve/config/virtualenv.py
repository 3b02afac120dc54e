"""What the option `virtualenv` of a watcher stands for: the programs and packages of a Python environment.

Rules, as in Circus: `bin` comes first on PATH; PYTHONPATH gets the folders of the environment's .pth files, then its
previous value, then site-packages. Code in .pth files (the module site) is not run. Unlike in Circus the version of
Python is that of the environment, and copy_env is not needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forkserve.errors import ConfigError

__all__ = ["Virtualenv", "read_virtualenv"]

_INTERPRETERS = ("python", "pypy")
"""Prefixes of the folders in lib; their version follows."""


@dataclass(frozen=True, slots=True)
class Virtualenv:
    """An environment on disk; all paths are absolute."""

    bin: str
    site_packages: str
    linked: tuple[str, ...]
    """Folders from its .pth files: of editable installs, for instance."""

    @property
    def version(self) -> str:
        """The version of its Python, such as 3.11, from the name of its folder."""
        return _version(Path(self.site_packages).parent.name)

    def variables(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the PATH and PYTHONPATH of a process that had `env`."""
        before = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
        packages = dict.fromkeys((*self.linked, *before, self.site_packages))
        return {
            "PATH": os.pathsep.join((self.bin, env.get("PATH") or os.defpath)),
            "PYTHONPATH": os.pathsep.join(packages),
        }


def read_virtualenv(path: str, version: str | None) -> Virtualenv:
    """Find the programs and packages of the environment at an absolute path; raises ConfigError if there is none.

    `version` chooses among the Pythons in it, as `virtualenv_py_ver` does.
    """
    if not os.path.isdir(path):
        raise ConfigError(f"no such directory: {path}; make it by: python3 -m venv {path}")
    found = {
        _version(each.parent.name): str(each)
        for name in _INTERPRETERS
        for each in sorted(Path(path, "lib").glob(f"{name}*/site-packages"))
    }
    programs = os.path.join(path, "bin")
    if not found or not os.path.isdir(programs):
        missing = "bin" if found else "lib/python*/site-packages"
        raise ConfigError(f"{path} is not a Python environment, it has no {missing}")
    site_packages = found[_chosen(path, version, tuple(found))]
    return Virtualenv(programs, site_packages, _linked(site_packages))


def _chosen(path: str, version: str | None, found: Sequence[str]) -> str:
    """Return which version of an environment applies: the requested one, else its own, else ours."""
    have = " and ".join(found)
    if version is not None:
        if version not in found:
            raise ConfigError(f"{path} has Python {have}, not {version}: correct virtualenv_py_ver, or leave it out")
        return version
    wanted = found if len(found) == 1 else (_made_for(path), "{}.{}".format(*sys.version_info[:2]))
    chosen = next((each for each in wanted if each in found), None)
    if chosen is None:
        raise ConfigError(f"{path} has Python {have}: choose one by virtualenv_py_ver")
    return chosen


def _version(name: str) -> str:
    for interpreter in _INTERPRETERS:
        name = name.removeprefix(interpreter)
    return name


def _made_for(path: str) -> str | None:
    """Return the version in pyvenv.cfg (PEP 405), which venv calls `version` and virtualenv `version_info`."""
    try:
        lines = Path(path, "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):
            return ".".join(value.strip().split(".")[:2])
    return None


def _linked(site_packages: str) -> tuple[str, ...]:
    """Return the folders and archives that .pth files add to the path (documented with the module site)."""
    found: dict[str, None] = {}
    for file in sorted(Path(site_packages).glob("*.pth")):
        try:
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            continue
        for line in map(str.rstrip, lines):
            path = os.path.abspath(os.path.join(site_packages, line))
            if line and not line.startswith(("#", "import ", "import\t")) and os.path.exists(path):
                found[path] = None
    return tuple(found)
