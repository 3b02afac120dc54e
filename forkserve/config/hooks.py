"""What a watcher's `hooks.NAME = dotted.name[, ignore_failure]` means.

Rules: pure; a hook is not imported here, since that would run code of the user's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from forkserve.config.values import boolean

__all__ = ["ALWAYS_IGNORED", "HOOKS", "Hook", "hooks_of", "parse_hook"]

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

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Hook:
    """A callable of the user's by its dotted name, and whether its failure counts as consent."""

    target: str
    ignore_failure: bool = False


def parse_hook(text: str) -> Hook:
    """Return the hook that a value names; raises ValueError with what was expected."""
    target, comma, flag = (part.strip() for part in text.partition(","))
    if not _NAME.fullmatch(target):
        raise ValueError(f"expected the dotted name of a callable, such as package.module.function, got {target!r}")
    return Hook(target, boolean(flag) if comma else False)


def hooks_of(written: Mapping[str, str]) -> dict[str, Hook]:
    """Return the hooks by name; what is not valid was refused when it was read."""
    return {name: parse_hook(text) for name, text in written.items() if name in HOOKS}
