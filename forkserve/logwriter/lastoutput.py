"""The last output of one watcher's processes, for `forkservectl logs`. Pure.

Each process has a share of the room: when it is full, the oldest lines of those that have written most are dropped
first, so that a talkative process does not push out the last words of one that has died. Lines are kept as they were
read, many at a time, since this is done for all captured output.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter

__all__ = ["EACH", "LastOutput", "Portion", "newest"]

EACH = 64
"""Bytes that a line costs besides its text, so that empty lines are limited, too."""
_ROOM = 0.75
"""Share of the limit that remains used after dropping lines; with less room they would be dropped at each line."""


@dataclass(slots=True)
class Portion:
    """Lines without their ends that one process has written at once; `at` is in seconds of the wall clock."""

    number: int
    at: float
    name: str
    pid: int
    is_stderr: bool
    lines: list[bytes]

    @property
    def size(self) -> int:
        """Its size."""
        return sum(map(len, self.lines)) + EACH * len(self.lines)

    def drop(self, size: int) -> int:
        """Drop the oldest lines, until this much is free; returns how much is."""
        freed = dropped = 0
        while freed < size and dropped < len(self.lines):
            freed += len(self.lines[dropped]) + EACH
            dropped += 1
        self.lines = self.lines[dropped:]
        return freed


@dataclass(slots=True)
class _Share:
    portions: deque[Portion] = field(default_factory=deque)
    size: int = 0

    def shrink_to(self, size: int) -> None:
        while self.size > size and self.portions:
            self.size -= self.portions[0].drop(self.size - size)
            if not self.portions[0].lines:
                self.portions.popleft()


class LastOutput:
    """The last lines of one watcher, in at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._count = 0
        self._size = 0
        self._shares: dict[str, _Share] = {}

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._size

    def add(self, name: str, pid: int, lines: list[bytes], *, is_stderr: bool, at: float) -> None:
        """Keep lines that a process has written at an instant."""
        self._count += 1
        portion = Portion(self._count, at, name, pid, is_stderr, lines)
        share = self._shares.setdefault(name, _Share())
        share.portions.append(portion)
        size = portion.size
        share.size += size
        self._size += size
        if self._size > self.limit:
            self._make_room()

    def last(self, count: int | None = None, name: str | None = None) -> list[Portion]:
        """Return the last lines, all that are kept or this many, of all processes or of one, oldest first."""
        chosen = [each.portions for owner, each in self._shares.items() if name in (None, owner)]
        return newest(list(heapq.merge(*chosen, key=attrgetter("number"))), count)

    def _make_room(self) -> None:
        level = _level([each.size for each in self._shares.values()], int(self.limit * _ROOM))
        for name, share in tuple(self._shares.items()):
            share.shrink_to(level)
            if not share.portions:
                del self._shares[name]
        self._size = sum(each.size for each in self._shares.values())


def newest(portions: list[Portion], count: int | None) -> list[Portion]:
    """Return the last `count` lines of portions in order, or all."""
    found: list[Portion] = []
    left = sum(len(each.lines) for each in portions) if count is None else count
    for each in reversed(portions):
        if left <= 0:
            break
        lines = each.lines[max(0, len(each.lines) - left) :]
        left -= len(lines)
        found.append(Portion(each.number, each.at, each.name, each.pid, each.is_stderr, lines))
    return found[::-1]


def _level(sizes: list[int], room: int) -> int:
    """Return the largest size allowed for each, so that all fit: those with less leave their rest to the others."""
    ascending = sorted(sizes)
    for index, size in enumerate(ascending):
        others = len(ascending) - index
        if size * others > room:
            return room // others
        room -= size
    return max(sizes, default=0)
