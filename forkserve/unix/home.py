"""The folder that a command was started in, by the name that was typed, so that a link that leads elsewhere now is
followed: a deploy by `ln -sfn releases/2 current` takes effect at the next start of a process.

Rules: PWD of the environment keeps the name, as in shells (POSIX, 2.5.3): it counts while it names the working
directory, of which getcwd(2) returns only the path behind the link.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence

__all__ = ["START", "enter", "here", "remember", "return_to_start", "started_by", "typed", "typed_folder"]

START = "FORKSERVE_START_FOLDER"
"""Variable that names the folder in which a worker that executes itself again was started."""


def typed_folder(environ: Mapping[str, str]) -> str | None:
    """Return the working directory as it was typed, if known; None if it has been deleted."""
    pwd = environ.get("PWD", "")
    if os.path.isabs(pwd) and os.path.isdir(pwd):
        with contextlib.suppress(OSError):
            if os.path.samefile(pwd, "."):
                return pwd
    found = here()
    if found:
        return found[0]
    return pwd if os.path.isabs(pwd) and os.path.isdir(pwd) else None


def here() -> list[str]:
    """Return the working directory, or nothing if it has been deleted."""
    try:
        return [os.getcwd()]
    except FileNotFoundError:
        return []


def remember(environ: MutableMapping[str, str], folder: str | None = None) -> None:
    """Keep the name of the working directory in PWD; `folder` was just changed to, relative to the former one.

    Raises OSError if there is no such folder.
    """
    before = typed_folder(environ)
    if folder is not None:
        os.chdir(folder)
        before = os.path.join(before or "/", folder)
    if before is None:
        environ.pop("PWD", None)
    else:
        environ["PWD"] = before


def enter(environ: Mapping[str, str]) -> None:
    """Change to the remembered folder, wherever its name leads now; stay if it leads nowhere."""
    with contextlib.suppress(OSError):
        os.chdir(environ.get("PWD") or ".")


def typed(path: str, environ: Mapping[str, str]) -> str:
    """Return an absolute path, by the typed name of the folder; links in it stay links."""
    return path if os.path.isabs(path) else os.path.join(typed_folder(environ) or "/", path)


def started_by(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return how this program was executed, without its arguments: an interpreter, then a script or a module.

    Paths are absolute, and links in them stay links, so that a deployment by a link is followed.
    """
    words = list(sys.orig_argv[: len(sys.orig_argv) - len(arguments)]) or [sys.executable]
    words[0] = sys.executable or words[0]
    if len(words) > 1 and words[-2] not in ("-m", "-c"):
        words[-1] = typed(words[-1], environ)
    return tuple(words)


def return_to_start(environ: MutableMapping[str, str]) -> None:
    """Change to the folder in which a worker was started, if this is one that has executed itself again."""
    start = environ.pop(START, None)
    if start:
        with contextlib.suppress(OSError):
            os.chdir(start)
            environ["PWD"] = start
