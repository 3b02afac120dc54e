"""What the soak makes of its figures: which waits it holds against a reload, and what its table says."""

from __future__ import annotations

from tests.soak.row import Result, Row, table
from tests.soak.witness import added_waits

STEADY = [(number / 100, 0.002) for number in range(100)]
"""A request each 10 ms, which takes 2 ms."""


def test_a_wait_that_the_witness_had_as_well_is_the_machine_s() -> None:
    held = [*STEADY[:50], (0.5, 0.4), *STEADY[92:]]
    assert max(added_waits(held, held)) < 0.001


def test_a_wait_that_the_witness_did_not_have_is_the_reload_s() -> None:
    held = [*STEADY[:50], (0.5, 0.4), *STEADY[92:]]
    assert 0.39 < max(added_waits(held, STEADY)) < 0.4


def test_a_wait_is_excused_by_what_the_witness_had_then_and_not_before() -> None:
    before = [*STEADY[:10], (0.1, 0.3), *STEADY[42:]]
    assert max(added_waits([*STEADY[:60], (0.6, 0.2), *STEADY[82:]], before)) > 0.19


def test_the_table_has_a_line_for_each_row_and_the_first_line_of_a_fault() -> None:
    rows = [
        Row("reloads", "asgi preload", 12.3, Result(1000, 0, "50 reloads")),
        Row("kills", "sync", 4.0, fault="died\nat once"),
    ]
    head, first, second = table(rows).splitlines()
    assert head.split() == ["part", "variant", "requests", "failed", "seconds", "verdict", "figures"]
    assert first.split() == ["reloads", "asgi", "preload", "1000", "0", "12", "ok", "50", "reloads"]
    assert second.split() == ["kills", "sync", "-", "-", "4", "FAULT", "died"]
