"""How exchanges end: the table in the code is the one that users read."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.serving.ends import End

ENGINE = Path(__file__).parents[2] / "docs" / "engine.md"


def row(how: End) -> str:
    ending = how.value
    answer = str(ending.status) if ending.status else "-"
    connection = "kept, if the request allows it" if ending.keeps else "closed"
    logged = "the exception" if ending.traced else "one line" if ending.message else "-"
    return f"| {ending.cause} | {answer} | {connection} | {logged} |"


@pytest.mark.parametrize("how", End)
def test_each_end_stands_in_the_documentation(how: End) -> None:
    assert row(how) in ENGINE.read_text().splitlines()


def test_no_two_ends_are_one() -> None:
    """Equal rows would make one an alias of the other."""
    assert len(End) == len(End.__members__)


def test_only_what_is_answered_keeps_a_connection() -> None:
    for how in End:
        assert how.status or not (how.value.keeps or how.sends_head), how
