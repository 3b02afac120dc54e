"""Circus's clients see one process for each place of a watcher, whichever of two it is."""

from __future__ import annotations

from typing import Any

import pytest

from forkserve.sidecars.circus.listing import listed


def process(pid: int, state: str, wid: int = 1, **more: Any) -> dict[str, Any]:
    return {"pid": pid, "state": state, "wid": wid, **more}


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([], []),
        ([process(10, "ready"), process(11, "ready", 2)], [10, 11]),
        ([process(10, "ready"), process(11, "spawning")], [10]),
        ([process(10, "ready"), process(11, "ready")], [11]),
        ([process(10, "draining"), process(11, "ready")], [11]),
        ([process(10, "draining"), process(11, "spawning")], [11]),
        ([process(10, "spawning"), process(11, "spawning")], [11]),
        ([process(10, "killing")], []),
        ([process(0, "spawning")], []),
        ([process(9, "ready", 0, zygote=True), process(10, "zygote", 0), process(11, "spawning")], [11]),
    ],
)
def test_one_process_is_listed_for_each_place(processes: list[dict[str, Any]], expected: list[int]) -> None:
    assert listed({"processes": processes}) == expected
