"""Reads a Procfile, as for Foreman, Honcho and Heroku: a line `NAME: COMMAND` for each type of process.

These ignore every other line, and Honcho and Overmind refuse a name that is there twice. Here a line without effect is
noted, by its number only, since it may hold a secret.

Rules: pure except for reading the file.
"""

from __future__ import annotations

import re
from pathlib import Path

from forkserve.cli.importing.draft import Draft, Scalar
from forkserve.cli.importing.variables import read_dotenv
from forkserve.config.userfiles import read_text
from forkserve.errors import ConfigError

__all__ = ["needs_shell", "read_procfile"]

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_-]*)\s*:\s*(?P<command>.+)$")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
_SHELL = re.compile(r"[$`|&;<>*?~#(){}\[\]!\\]")
_EXPORTED = re.compile(r"\s*(export\s+)?[A-Za-z_]\w*=")
_ODD = "expected NAME: COMMAND; left out, as Foreman and Honcho do"
_EXPORT = "a Procfile sets no variables, so it has no effect in Foreman and Honcho; .env is read, or use [env] here"
_PORT = "set it for forkserve (Foreman counts from 5000); to bind it in the master use [socket.NAME] and --fd"


def read_procfile(path: Path, draft: Draft) -> None:
    """Add a file to the draft; raises ConfigError, OSError and UnicodeDecodeError."""
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line.strip())
        if match is None:
            draft.note(f"{path.name}:{number}", _EXPORT if _EXPORTED.match(line) else _ODD)
            continue
        name, command = match["name"], match["command"].strip()
        if name in lines:
            raise ConfigError(f"{path}:{number}: {name} is in line {lines[name]} already; a name can be used once")
        lines[name] = number
        _add(name, command, f"{path.name}:{number}", draft)
    read_dotenv(path, None, draft)


def _add(name: str, command: str, origin: str, draft: Draft) -> None:
    if name == "release":
        draft.note(name, f"runs once at a deploy, forkserve has no such thing; run it before: {command}")
        return
    values: dict[str, Scalar] = {"cmd": command, "copy_env": True}
    if needs_shell(command):
        # the signal goes to the shell and to what it has started
        values |= {"shell": True, "stop_children": True}
    draft.add("watcher", name, values=values, origin=origin)
    if re.search(r"\$\{?PORT\b", command):
        draft.note(f"{name} $PORT", _PORT)


def needs_shell(command: str) -> bool:
    """Tell whether a command needs a shell: for variables, pipes, patterns, assignments."""
    return bool(_SHELL.search(command) or _ASSIGNED.match(command))
