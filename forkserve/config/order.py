"""The order in which watchers start and stop: by dependency, then by priority.

Rules: pure; names are case-insensitive. `groups` is for starts, and reversed for stops. `cycle` finds what cannot be
ordered.
"""

from __future__ import annotations

import heapq
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
    before = {name: {each for each in after.get(name, ()) if each in priorities} for name in priorities}
    dependents: dict[str, list[str]] = {name: [] for name in priorities}
    for name, names in before.items():
        for each in names:
            dependents[each].append(name)
    place = {name: (-priority, number) for number, (name, priority) in enumerate(priorities.items())}
    waiting = dict.fromkeys(priorities)
    free = [(*place[name], name) for name in waiting if not before[name]]
    heapq.heapify(free)
    found: list[list[str]] = []
    while waiting:
        group = _highest(free) or _highest(sorted((*place[name], name) for name in waiting))
        found.append(group)
        for name in group:
            del waiting[name]
        for name in dict.fromkeys(each for gone in group for each in dependents[gone]):
            before[name].difference_update(group)
            if name in waiting and not before[name]:
                heapq.heappush(free, (*place[name], name))
    return found


def _highest(heap: list[tuple[int, int, str]]) -> list[str]:
    """Take those of the highest priority off a heap."""
    found: list[str] = []
    highest = heap[0][0] if heap else 0
    while heap and heap[0][0] == highest:
        found.append(heapq.heappop(heap)[2])
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
