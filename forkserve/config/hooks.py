"""The meaning of a watcher's `hooks.NAME = dotted.name[, ignore_failure]`.

Rules: pure; a hook is not imported here, since that would run user code.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from forkserve.config.values import boolean

__all__ = ["ALWAYS_IGNORED", "CHANGEABLE", "HOOKS", "MAY_CHANGE", "Hook", "changed_options", "hooks_of", "parse_hook"]

HOOKS = (
    "before_start",
    "after_start",
    "before_spawn",
    "after_spawn",
    "before_stop",
    "after_stop",
    "before_signal",
    "after_signal",
    "before_reap",
    "after_reap",
    "extended_stats",
)
"""All that Circus knows."""

ALWAYS_IGNORED = frozenset({"before_stop", "after_stop", "before_signal", "after_signal", "extended_stats"})
"""Hooks whose failure forbids nothing, as in Circus."""

CHANGEABLE = ("args", "cmd", "env", "executable", "shell", "shell_args", "working_dir")
"""Options of its watcher that a hook may assign, for what is started next."""
MAY_CHANGE = ("before_start", "before_spawn")
"""Hooks that may."""

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Hook:
    """A user function by its dotted name, and whether its failure counts as consent."""

    target: str
    ignore_failure: bool = False


def parse_hook(text: str) -> Hook:
    """Return the hook that a value names; raises ValueError with the expected form."""
    target, comma, flag = (part.strip() for part in text.partition(","))
    if not _NAME.fullmatch(target):
        raise ValueError(f"expected the dotted name of a callable, such as package.module.function, got {target!r}")
    return Hook(target, boolean(flag) if comma else False)


def changed_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that a hook has assigned, as options have them; raises ValueError for invalid ones."""
    return {name: _changed(name, value) for name, value in values.items()}


def _changed(name: str, value: Any) -> Any:
    if name == "args" and isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    if name == "env":
        expected, fits = "a dict of texts", isinstance(value, dict) and _are_texts([*value, *value.values()])
    elif name == "shell":
        expected, fits = "True or False", isinstance(value, bool)
    elif name in ("cmd", "args"):
        expected, fits = "a text", _are_texts([value]) and (name == "args" or bool(value.strip()))
    else:
        expected, fits = "a text or None", name in CHANGEABLE and (value is None or _are_texts([value]))
    if not fits:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return value


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(each, str) and "\0" not in each for each in values)


def hooks_of(written: Mapping[str, str]) -> dict[str, Hook]:
    """Return the hooks by name; invalid ones were refused at reading."""
    return {name: parse_hook(text) for name, text in written.items() if name in HOOKS}
