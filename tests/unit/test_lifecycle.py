"""The tables of supervision are total where they must be, and a death is judged as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.supervision.lifecycle import (
    KILLED_AT_MOST,
    MASTER,
    PROCESS,
    SLOT,
    Death,
    Effect,
    ImpossibleEvent,
    MasterState,
    MasterTrigger,
    Policy,
    ProcessState,
    ProcessTrigger,
    SlotState,
    SlotTrigger,
    Tally,
    judge,
    markdown,
    step,
)

POLICY = Policy(max_retry=4, backoff=0.5, backoff_max=1.5)
EARLY = Death(was_ready=False)


def test_the_tables_in_the_docs_are_those_in_force() -> None:
    written = Path(__file__).parent.parent.parent / "docs" / "states.md"
    assert written.read_text() == markdown(), "run: python -m forkserve.supervision.lifecycle > docs/states.md"


def test_every_state_has_a_row() -> None:
    assert set(PROCESS) == set(ProcessState)
    assert set(SLOT) == set(SlotState)
    assert set(MASTER) == set(MasterState)


def test_a_process_can_be_stopped_killed_and_reaped_in_every_state_but_the_last() -> None:
    for state in set(ProcessState) - {ProcessState.GONE}:
        assert {ProcessTrigger.STOP, ProcessTrigger.KILL, ProcessTrigger.EXITED, ProcessTrigger.READY} <= set(
            PROCESS[state]
        )
        assert step(PROCESS, state, ProcessTrigger.EXITED)[0] is ProcessState.GONE


def test_nothing_happens_to_a_process_that_is_gone() -> None:
    with pytest.raises(ImpossibleEvent, match=r"READY in ProcessState\.GONE"):
        step(PROCESS, ProcessState.GONE, ProcessTrigger.READY)


def test_a_process_that_misses_its_deadline_is_killed_and_killed_again() -> None:
    for state in (ProcessState.SPAWNING, ProcessState.DRAINING, ProcessState.KILLING):
        after, effects = step(PROCESS, state, ProcessTrigger.DEADLINE)

        assert after is ProcessState.KILLING
        assert effects == (Effect.TELL_LATE, Effect.SEND_KILL)


def test_a_slot_can_be_wanted_and_not_wanted_in_every_state() -> None:
    for state in SlotState:
        assert step(SLOT, state, SlotTrigger.WANT_DOWN)[0] is SlotState.VACANT
        if state is not SlotState.VACANT:
            assert step(SLOT, state, SlotTrigger.WANT_UP) == (state, ())


def test_the_master_goes_down_only_when_nothing_is_left() -> None:
    assert MasterTrigger.CHILDLESS not in MASTER[MasterState.RUNNING]
    into_down = {
        (state, event)
        for state, row in MASTER.items()
        for event, (after, _) in row.items()
        if after is MasterState.DOWN and state is not MasterState.DOWN
    }
    assert {event for _, event in into_down} == {MasterTrigger.CHILDLESS}


def test_early_deaths_are_retried_after_pauses_that_double_up_to_a_bound_and_then_given_up() -> None:
    tally, events, delays = Tally(), [], []
    for _ in range(4):
        verdict = judge(POLICY, tally, EARLY)
        tally = verdict.tally
        events.append(verdict.event)
        delays.append(verdict.delay)

    assert events == [SlotTrigger.LOST_EARLY] * 3 + [SlotTrigger.GAVE_UP]
    assert delays[:3] == [0.5, 1.0, 1.5]


def test_a_process_that_was_ready_is_replaced_at_once_and_clears_the_tally() -> None:
    verdict = judge(POLICY, Tally(failed=3, killed=9), Death(was_ready=True, signum=11))

    assert (verdict.event, verdict.tally, verdict.delay) == (SlotTrigger.LOST, Tally(), 0.0)


def test_a_kill_from_outside_is_no_failure_until_there_are_too_many() -> None:
    killed = Death(was_ready=False, signum=9)

    assert judge(POLICY, Tally(), killed).event is SlotTrigger.LOST
    assert judge(POLICY, Tally(killed=KILLED_AT_MOST), killed).event is SlotTrigger.LOST_EARLY
    assert judge(POLICY, Tally(), Death(was_ready=False, signum=11)).event is SlotTrigger.LOST_EARLY


def test_max_retry_minus_one_tries_for_ever() -> None:
    policy = Policy(max_retry=-1, backoff_max=30.0)

    verdict = judge(policy, Tally(failed=10**6), EARLY)

    assert (verdict.event, verdict.delay) == (SlotTrigger.LOST_EARLY, 30.0)
    assert judge(policy, Tally(), Death(was_ready=False, impossible=True)).event is SlotTrigger.LOST_EARLY


def test_max_retry_zero_gives_up_at_the_first_failure() -> None:
    assert judge(Policy(max_retry=0), Tally(), EARLY).event is SlotTrigger.GAVE_UP


def test_a_machine_that_is_short_of_something_counts_against_no_program() -> None:
    short = Death(was_ready=False, transient=True)

    for tally in (Tally(), Tally(failed=3)):
        assert judge(POLICY, tally, short).event is SlotTrigger.LOST_EARLY
        assert judge(POLICY, tally, short).tally == tally


def test_what_cannot_be_executed_is_given_up_at_once() -> None:
    assert judge(POLICY, Tally(), Death(was_ready=False, impossible=True)).event is SlotTrigger.GAVE_UP


@pytest.mark.parametrize("death", [Death(True), Death(False), Death(False, 9), Death(True, 11)])
def test_without_respawn_every_end_is_final(death: Death) -> None:
    assert judge(Policy(respawn=False), Tally(), death).event is SlotTrigger.FINISHED
