"""Descriptors in plain data: an object with one key that no user can choose, so that the code that transfers the data
can find and renumber them.

Rules: pure. A missing descriptor has the number -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["descriptor", "descriptors_in", "number_of", "renumbered"]

_KEY = "\0fd"
"""No name of a socket, an option or a variable has a NUL in it."""


def descriptor(number: int) -> dict[str, int]:
    """Return a descriptor as data; any negative number means that there is none."""
    return {_KEY: max(number, -1)}


def number_of(data: Mapping[str, int]) -> int:
    """Return the number of a descriptor from its data; -1 if there is none."""
    return data[_KEY]


def _is_descriptor(data: Any) -> bool:
    return isinstance(data, dict) and data.keys() == {_KEY}


def descriptors_in(data: Any) -> frozenset[int]:
    """Return the numbers of all descriptors in a state."""
    if _is_descriptor(data):
        return frozenset((data[_KEY],) if data[_KEY] >= 0 else ())
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, list | tuple) else ()
    return frozenset().union(*(descriptors_in(each) for each in inside))


def renumbered(data: Any, numbers: Mapping[int, int]) -> Any:
    """Return a state with renumbered descriptors; one that is not in `numbers` becomes -1."""
    if _is_descriptor(data):
        return descriptor(numbers.get(data[_KEY], -1))
    if isinstance(data, dict):
        return {key: renumbered(value, numbers) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [renumbered(each, numbers) for each in data]
    return data
