"""The order of starts: after what is named, then by priority; ways that lead back to where they began."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserve.config.order import cycle, groups

NAMES = "abcdef"
EDGES = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3, unique=True))


def test_without_any_after_priorities_alone_decide() -> None:
    assert groups({"a": 0, "b": 5, "c": 0}, {}) == [["b"], ["a", "c"]]


def test_what_comes_after_another_waits_for_it_whatever_its_priority() -> None:
    assert groups({"web": 9, "db": 0, "cache": 1}, {"web": ("db", "cache", "nobody")}) == [["cache"], ["db"], ["web"]]


@given(EDGES)
def test_a_cycle_is_found_exactly_where_there_is_one(after: dict[str, list[str]]) -> None:
    way = cycle(after)
    order = [name for names in groups(dict.fromkeys(after, 0), after) for name in names]
    fits = all(
        order.index(before) < order.index(name) for name, names in after.items() for before in names if before in after
    )

    assert sorted(order) == sorted(after)
    assert fits is not bool(way)
    if way:
        assert way[0] == way[-1]
        assert all(following in after[name] for name, following in itertools.pairwise(way))


@pytest.mark.parametrize("kind", ["chain", "priorities"])
def test_a_thousand_watchers_are_ordered_without_holding_the_loop(kind: str) -> None:
    names = [f"w{number}" for number in range(1000)]
    chain = {later: [earlier] for earlier, later in itertools.pairwise(names)}
    priorities = {name: -number for number, name in enumerate(names)}
    before = time.thread_time()
    order = groups(dict.fromkeys(names, 0), chain) if kind == "chain" else groups(priorities, {})
    assert time.thread_time() - before < 1.0, "2 ms; it was 3 s with a look at all of them for each"
    assert order == [[name] for name in names]


@given(EDGES, st.lists(st.integers(0, 2), min_size=len(NAMES), max_size=len(NAMES)))
def test_each_group_is_the_first_of_those_that_wait_for_nothing(after: dict[str, list[str]], given: list[int]) -> None:
    priorities = dict(zip(NAMES, given, strict=True))
    waiting = list(NAMES)
    for group in groups(priorities, after):
        free = [name for name in waiting if not set(after.get(name, ())) & set(waiting)] or waiting
        highest = max(priorities[name] for name in free)
        assert group == [name for name in free if priorities[name] == highest]
        waiting = [name for name in waiting if name not in group]
    assert not waiting
