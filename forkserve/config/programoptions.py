"""The options of the program that a watcher runs: the first options of a section `[watcher:NAME]`.

Rules: as in `model`: one field per option, Circus's names first.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.config.options import MISSING, option
from forkserve.config.values import at_least, boolean, integer, not_empty, optional, text

__all__ = ["ProgramOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOptions:
    """The program, and its user, folder and environment."""

    name: str
    cmd: str = option(
        MISSING, "Command line, split as a shell would; placeholders are replaced.", check=not_empty, metavar="COMMAND"
    )
    args: str = option("", "More arguments, appended to cmd.")
    process_name: str | None = option(
        None,
        "Name of a process, such as worker_$(circus.wid:02), for status, logs and verbs; else NAME[N].",
        parse=optional(text),
        metavar="NAME",
    )
    first_wid: int = option(
        1,
        "Value of $(circus.wid) for the first process.",
        parse=integer,
        check=at_least(0),
        aliases=("numprocs_start",),
        metavar="N",
    )
    executable: str | None = option(
        None, "Program to execute when it is not the first word of cmd.", parse=optional(text), metavar="PATH"
    )
    shell: bool = option(False, "Run cmd through /bin/sh -c.", parse=boolean)
    shell_args: str | None = option(None, "Arguments for the shell; only with shell.", parse=optional(text))
    working_dir: str | None = option(None, "Directory to start in.", parse=optional(text), metavar="DIR")
    uid: str | None = option(None, "User to run as, by name or number.", parse=optional(text), metavar="USER")
    gid: str | None = option(
        None, "Group to run as; without it the user's own group.", parse=optional(text), metavar="GROUP"
    )
    copy_env: bool = option(
        False, "Start from the master's environment; else only the env sections count.", parse=boolean
    )
    copy_path: bool = option(False, "Hand the master's sys.path on as PYTHONPATH; needs copy_env.", parse=boolean)
    virtualenv: str | None = option(
        None,
        "Python environment whose bin comes first on PATH, and whose packages are on PYTHONPATH.",
        parse=optional(text),
        metavar="DIR",
    )
    virtualenv_py_ver: str | None = option(
        None,
        "Version of the virtualenv's Python, such as 3.13, where it has several.",
        parse=optional(text),
        metavar="X.Y",
    )
