"""Descriptors are found in a state whatever users call their sockets and variables."""

from __future__ import annotations

import json

from forkserve.unix.descriptors import descriptor, descriptors_in, number_of, renumbered


def test_descriptors_are_found_and_renumbered_wherever_they_are() -> None:
    data = {"env": {"fd": 4}, "a": [descriptor(5), {"b": descriptor(6)}], "none": descriptor(-1)}
    data = json.loads(json.dumps(data))
    assert descriptors_in(data) == {5, 6}

    again = renumbered(data, {5: 15, 6: 16})
    assert descriptors_in(again) == {15, 16}
    assert again["env"] == {"fd": 4}
    assert number_of(again["a"][0]) == 15 and number_of(again["none"]) == -1


def test_a_descriptor_that_is_not_handed_over_is_none() -> None:
    assert descriptors_in(renumbered([descriptor(5), descriptor(6)], {5: 5})) == {5}
