"""The order of starts: after what is named, then by priority; ways that lead back to where they began."""

from __future__ import annotations

import itertools

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
