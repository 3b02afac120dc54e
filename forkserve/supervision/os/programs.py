"""Finds the file of a program as a shell would, and explains why the kernel would not execute it.

Rules: the search path is the child's, not the master's. Nothing is executed here.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from forkserve.config.preloading import OWN_PROGRAMS

__all__ = ["NotFoundError", "explain", "locate"]


class NotFoundError(Exception):
    """There is no such program; `number` is ENOENT, or EACCES if there is a file that may not be executed."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def locate(name: str, path: str | None, cwd: str | None) -> str:
    """Return the file to execute for `name`, with `path` as PATH and relative names based on `cwd`.

    forkserve's own programs are also found beside the running Python, so that an environment need not be activated.
    Raises NotFoundError.
    """
    base = cwd or ""
    if "/" in name:
        return os.path.join(base, name)
    forbidden = None
    for folder in (os.defpath if path is None else path).split(os.pathsep):
        candidate = os.path.join(base, folder or os.curdir, name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            forbidden = candidate
    if name in OWN_PROGRAMS:
        own = Path(sys.executable).parent / name
        if own.exists():
            return str(own)
    if forbidden is not None:
        raise NotFoundError(f"cannot execute {forbidden!r}: it is not executable (chmod +x)", errno.EACCES)
    where = "on its PATH" if path is not None else f"in {os.defpath}, and it has no PATH: copy_env = True hands ours on"
    raise NotFoundError(f"command {name!r} not found {where}", errno.ENOENT)


def explain(program: str, number: int, reason: str) -> str:
    """Return why exec failed, where the kernel's own error would be misleading."""
    if number == errno.ENOENT and os.path.exists(program):
        return "the interpreter named in its first line does not exist"
    if number == errno.ENOEXEC:
        return "it is neither a binary for this machine nor a script that begins with #!"
    if number == errno.EACCES and os.path.isdir(program):
        return "it is a directory"
    if number == errno.EACCES and os.path.isfile(program) and not os.access(program, os.X_OK):
        return "it is not executable (chmod +x)"
    return reason
