"""A call of a hook, and its answer, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CallHook", "HookAnswer", "HookCall", "consent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """`details` are the keyword arguments of the hook besides Circus's three, plain data.

    `targets` are all hooks of the watcher, by name: they are imported first. Without one for `hook` nothing is called.
    `path` are folders to import from, `timeout` the seconds within which an answer must arrive.
    """

    watcher: str
    hook: str
    targets: Mapping[str, str]
    timeout: float
    path: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """Whether the hook returned something true; or `error`, why it did not return. `stats` are those it has changed.

    `changes` are options of its watcher that it has assigned, for what is started next: see `forkserve.config.hooks`.
    """

    said: bool
    error: str = ""
    stats: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


CallHook = Callable[[HookCall, Callable[[HookAnswer], None]], None]
"""Calls a hook; the answer comes later, or at once."""


def consent(_call: HookCall, then: Callable[[HookAnswer], None]) -> None:
    """Answer yes, when no hooks can be run."""
    then(HookAnswer(said=True))
