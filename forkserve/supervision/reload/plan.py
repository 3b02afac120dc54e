"""What a reload has to do: which watchers and sockets differ.

Rules: pure. `plan` compares two configurations whole, before anything is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from forkserve.config.model import Config, MasterOptions, WatcherOptions
from forkserve.config.options import ReloadCost, options_of
from forkserve.config.placeholders import sockets_for

__all__ = ["Plan", "WatcherChange", "plan", "uses"]

_RESPAWN_FIELDS = ("env", "rlimits", "stdout_stream", "stderr_stream")
"""Options that readers derive from several keys, and that take effect only in a new process."""

_LIVE_FIELDS = ("hooks", "extra")

_LIVE = frozenset(
    (*_LIVE_FIELDS, *(each.name for each in options_of(WatcherOptions) if each.reload is ReloadCost.LIVE))
)
_RESPAWN = frozenset((*_RESPAWN_FIELDS, *(each.name for each in options_of(WatcherOptions) if each.name not in _LIVE)))
_NAMES = tuple(_LIVE | _RESPAWN)
_values_of = attrgetter(*_NAMES)
"""Returns the values of _NAMES at once: hundreds of watchers are compared while the loop waits."""


@dataclass(frozen=True, slots=True)
class WatcherChange:
    """A watcher that stays. `live` options are applied at once, those in `respawn` only by new processes."""

    options: WatcherOptions
    live: frozenset[str] = frozenset()
    respawn: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences between two configurations; `restart` are options that need a restart of forkserve."""

    added: tuple[WatcherOptions, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[WatcherChange, ...] = ()
    rebound: frozenset[str] = frozenset()
    restart: tuple[str, ...] = ()


def plan(old: Config, new: Config, rebound: frozenset[str] = frozenset()) -> Plan:
    """Compare two configurations; watchers are matched by name, case-insensitive, as in Circus.

    `rebound` are the sockets, by lower-case name, that will be another queue: their readers must be replaced.
    """
    before = {each.name.lower(): each for each in old.watchers}
    after = {each.name.lower(): each for each in new.watchers}
    return Plan(
        added=tuple(each for name, each in after.items() if name not in before),
        removed=tuple(each.name for name, each in before.items() if name not in after),
        kept=tuple(
            _change(before[name], each, old=old, new=new, rebound=rebound)
            for name, each in after.items()
            if name in before
        ),
        rebound=rebound,
        restart=_restart(old.master, new.master),
    )


def _change(
    before: WatcherOptions, after: WatcherOptions, *, old: Config, new: Config, rebound: frozenset[str]
) -> WatcherChange:
    differ = () if before == after else _differing(before, after)
    live = {name for name in differ if name in _LIVE}
    respawn = {name for name in differ if name in _RESPAWN}
    wanted = uses(after, new)
    if wanted != uses(before, old) or rebound & set(wanted):
        respawn.add("sockets")
    return WatcherChange(after, frozenset(live), frozenset(respawn))


def _differing(before: WatcherOptions, after: WatcherOptions) -> list[str]:
    pairs = zip(_NAMES, _values_of(before), _values_of(after), strict=True)
    return [name for name, old, new in pairs if old is not new and old != new]


def uses(watcher: WatcherOptions, config: Config) -> tuple[str, ...]:
    """Return the names, in lower case, of all sockets of the watcher's processes, in order."""
    names = sockets_for(watcher, [each.name for each in config.sockets])
    also = (watcher.stdin_socket,) if watcher.stdin_socket else ()
    return tuple(name.lower() for name in (*names, *also))


def _restart(old: MasterOptions, new: MasterOptions) -> tuple[str, ...]:
    return tuple(
        each.name
        for each in options_of(MasterOptions)
        if each.reload is ReloadCost.RESTART and _differ(old, new, each.name)
    )


def _differ(before: Any, after: Any, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))
