"""Placeholders in commands: `$(circus.NAME)` and `((circus.NAME))`, case-insensitive, as in Circus.

A number may be padded with zeros: `$(circus.wid:02)` is 03.

Rules: pure. Names are passed without the word `circus`: `wid`, `sockets.web`, `env.HOME`, `numprocesses`. An unknown
name is left in place, since a shell command may mean it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from forkserve.config.model import WatcherOptions
from forkserve.config.options import options_of

__all__ = [
    "env_values",
    "expand",
    "names_in",
    "sockets_for",
    "sockets_in",
    "unknown_names",
    "unset_text",
]

_NAME = r"circus\.([\w.-]+)(?::(0?[1-9]\d?)d?)?"
_PLACEHOLDER = re.compile(rf"\$\({_NAME}\)|\(\({_NAME}\)\)", re.IGNORECASE)
_AT_SPAWN = ("wid", "args", "shell", "working_dir", "uid", "gid", "executable", "use_fds", "name")
"""What is known only when a process is spawned, besides the watcher's options."""


def names_in(text: str) -> tuple[str, ...]:
    """Return the names of the placeholders in `text`, in lower case, each once, in order of appearance."""
    if "((" not in text and "$(" not in text:  # asked for each of hundreds of watchers at a reload
        return ()
    return tuple(dict.fromkeys((match[1] or match[3]).lower() for match in _PLACEHOLDER.finditer(text)))


def sockets_in(text: str) -> tuple[str, ...]:
    """Return the names of the sockets in the placeholders of `text`."""
    return tuple(name.removeprefix("sockets.") for name in names_in(text) if name.startswith("sockets."))


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace each placeholder whose lower-case name is a key of `values`; others stay."""

    def value(match: re.Match[str]) -> str:
        found, width = values.get((match[1] or match[3]).lower()), match[2] or match[4]
        if found is None or width is None:
            return match[0] if found is None else found
        return f"{int(found):{width}d}" if found.isdecimal() else match[0]

    return _PLACEHOLDER.sub(value, text)


def env_values(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `env` as values for `expand`: `env.home` and so on."""
    return {f"env.{name.lower()}": value for name, value in env.items()}


def unset_text(text: str) -> str:
    """Return `the variable X is not set` if a placeholder needs one; those that are set are replaced already.

    What the master itself gives each process is only known at the spawn.
    """
    names = (match[1] or match[3] for match in _PLACEHOLDER.finditer(text))
    asked = dict.fromkeys(name[len("env.") :] for name in names if name.lower().startswith("env."))
    unset = [name for name in asked if not name.lower().startswith(("forkserve_", "notify_", "listen_"))]
    if len(unset) > 1:
        return f"the variables {', '.join(unset)} are not set"
    return f"the variable {unset[0]} is not set" if unset else ""


def sockets_for(watcher: WatcherOptions, sockets: Sequence[str]) -> tuple[str, ...]:
    """Return the sockets that the watcher's processes inherit, in the order of their descriptors (3, 4, 5, ...).

    Those named in its command; with `use_sockets` and no name in the command, all of `sockets`.
    """
    named = sockets_in(" ".join((watcher.cmd, watcher.args, watcher.shell_args or "")))
    if named or not watcher.use_sockets:
        return named
    return tuple(sockets)


def unknown_names(text: str) -> tuple[str, ...]:
    """Return the placeholders in `text` that no process will ever know; sockets and the environment are not checked."""
    known = {*_AT_SPAWN, *(each.name for each in options_of(WatcherOptions))}
    return tuple(
        name for name in names_in(text) if name not in known and not name.startswith(("sockets.", "env.", "rlimits."))
    )
