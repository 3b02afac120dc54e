"""Every fact of supervision is one event with its own kind, plain fields, and a line for a person."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections import Counter
from enum import Enum
from types import UnionType
from typing import Any

import pytest

from forkserve.supervision.events import KINDS, Event, as_data


def _all(base: type[Event]) -> list[type[Event]]:
    return [base, *(found for each in base.__subclasses__() for found in _all(each))]


def _value(kind: Any) -> Any:
    """Return a value of the type of a field."""
    if isinstance(kind, UnionType):
        return _value(typing.get_args(kind)[0])
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return (_value(of[0]),) if of[-1] is Ellipsis else tuple(map(_value, of))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{each.name: _value(hints[each.name]) for each in dataclasses.fields(kind)})  # type: ignore[operator]
    return {str: "said", int: 3, float: 2.5, bool: True}.get(kind)


def test_no_two_events_share_a_kind() -> None:
    # a set of names, since a dataclass with slots is made as a second class
    named = {(each.kind, f"{each.__module__}.{each.__qualname__}") for each in _all(Event) if each.kind}
    counted = Counter(kind for kind, _ in named)
    assert {kind: count for kind, count in counted.items() if count > 1} == {}
    assert set(counted) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_event_has_one_line_and_is_plain_data(kind: str) -> None:
    of = KINDS[kind]
    hints = typing.get_type_hints(of)
    event = of(**{each.name: _value(hints[each.name]) for each in dataclasses.fields(of)})
    text = event.text()
    assert text and "\n" not in text
    data = json.loads(json.dumps(as_data(event), default=dataclasses.asdict))
    assert (data["kind"], data["text"]) == (kind, text)
    assert set(data) == {"kind", "text"} | {each.name for each in dataclasses.fields(of)}
