"""The order in which watchers start and stop: by dependency, then by priority.

Rules: pure; names are case-insensitive. `groups` is for starts, and reversed for stops. `cycle` finds what cannot be
ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

__all__ = ["OnDependency", "cycle", "groups"]


class OnDependency(Enum):
    """What happens to a watcher when one that it depends on is lost."""

    KEEP = "keep"
    RESTART = "restart"
    STOP = "stop"


def groups(priorities: Mapping[str, int], after: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the names in groups that start together, first those of the highest priority without dependencies.

    `priorities` has all of them in the order of the configuration; dependencies on unknown names are ignored. In a
    cycle those of the highest priority come first.
    """
    waiting = list(priorities)
    before = {name: {each for each in after.get(name, ()) if each in priorities} for name in waiting}
    found: list[list[str]] = []
    while waiting:
        free = [name for name in waiting if not before[name] & set(waiting)] or waiting
        highest = max(priorities[name] for name in free)
        found.append([name for name in free if priorities[name] == highest])
        waiting = [name for name in waiting if name not in found[-1]]
    return found


def cycle(after: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return a path that leads back to its start, as `web, db, web`; empty if there is none."""
    left = {name: [each for each in names if each in after] for name, names in after.items()}
    while free := {name for name, names in left.items() if not names}:
        left = {name: [each for each in names if each not in free] for name, names in left.items() if name not in free}
    # Each that is left comes after another that is left: whichever way is taken ends in a cycle.
    way: list[str] = [] if not left else [next(iter(left))]
    while way and (following := left[way[-1]][0]) not in way:
        way.append(following)
    return (*way[way.index(following) :], following) if way else ()
