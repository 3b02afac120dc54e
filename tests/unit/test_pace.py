"""Which process a roll replaces next."""

from __future__ import annotations

import pytest

from forkserve.supervision.jobs.pace import Step, StepKind, next_step
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.snapshot import SlotSnapshot

FILLED = SlotState.FILLED


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([], Step(StepKind.DONE)),
        ([SlotSnapshot(1, FILLED, 2, False)], Step(StepKind.DONE)),
        ([SlotSnapshot(2, FILLED, 1, False), SlotSnapshot(1, FILLED, 1, False)], Step(StepKind.REPLACE, 1)),
        ([SlotSnapshot(1, FILLED, 2, True), SlotSnapshot(2, FILLED, 1, False)], Step(StepKind.WAIT)),
        ([SlotSnapshot(1, SlotState.FATAL, 0, False), SlotSnapshot(2, FILLED, 1, False)], Step(StepKind.REPLACE, 2)),
        ([SlotSnapshot(1, SlotState.BACKOFF, 0, False)], Step(StepKind.DONE)),
    ],
)
def test_the_next_step_of_a_roll(slots: list[SlotSnapshot], expected: Step) -> None:
    assert next_step(slots, 2) == expected
