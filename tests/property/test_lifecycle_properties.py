"""Whatever happens, in whatever order, the tables and the plans keep their promises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forkserve.supervision.jobs.pace import StepKind, next_step
from forkserve.supervision.lifecycle import (
    PROCESS,
    SLOT,
    Death,
    Effect,
    Policy,
    ProcessState,
    ProcessTrigger,
    SlotState,
    SlotTrigger,
    Tally,
    judge,
    step,
)
from forkserve.supervision.snapshot import SlotSnapshot

ORDER = [
    ProcessState.SPAWNING,
    ProcessState.READY,
    ProcessState.DRAINING,
    ProcessState.KILLING,
    ProcessState.GONE,
]


@given(st.lists(st.sampled_from([each for each in ProcessTrigger if each is not ProcessTrigger.PROMOTED])))
def test_a_process_never_goes_back_and_is_asked_to_stop_at_most_once(events: list[ProcessTrigger]) -> None:
    state, stops = ProcessState.SPAWNING, 0
    for event in events:
        if event not in PROCESS[state]:
            continue
        after, effects = step(PROCESS, state, event)
        assert ORDER.index(after) >= ORDER.index(state)
        stops += effects.count(Effect.SEND_STOP)
        state = after
    assert stops <= 1


@given(st.sampled_from(ProcessState))
def test_only_a_worker_that_drains_becomes_a_zygote(state: ProcessState) -> None:
    assert (ProcessTrigger.PROMOTED in PROCESS[state]) is (state is ProcessState.DRAINING)


@given(st.lists(st.sampled_from(SlotTrigger)))
def test_a_slot_is_filled_by_a_spawn_and_by_nothing_else(events: list[SlotTrigger]) -> None:
    state = SlotState.VACANT
    for event in events:
        if event not in SLOT[state]:
            continue
        after, effects = step(SLOT, state, event)
        if after is SlotState.FILLED and state is not SlotState.FILLED:
            assert Effect.SPAWN in effects
        if state is SlotState.BACKOFF and after is not SlotState.BACKOFF:
            assert Effect.DISARM in effects or event is SlotTrigger.DUE
        state = after


DEATHS = st.builds(
    Death,
    was_ready=st.booleans(),
    signum=st.none() | st.integers(1, 64),
    transient=st.booleans(),
    impossible=st.just(False),
)
POLICIES = st.builds(
    Policy,
    respawn=st.just(True),
    max_retry=st.integers(-1, 10),
    backoff=st.floats(0, 100),
    backoff_max=st.floats(0, 100),
)


@given(POLICIES, st.lists(DEATHS, max_size=60))
def test_a_pause_never_exceeds_its_bound_and_nothing_is_given_up_before_its_time(
    policy: Policy, deaths: list[Death]
) -> None:
    tally, failed = Tally(), 0
    for death in deaths:
        verdict = judge(policy, tally, death)
        tally = verdict.tally
        failed = 0 if death.was_ready else failed + 1
        assert 0 <= verdict.delay <= policy.backoff_max
        assert verdict.event in SLOT[SlotState.FILLED]
        if verdict.event is SlotTrigger.GAVE_UP:
            assert 0 <= policy.max_retry <= max(failed, 0)


@given(st.integers(1, 8), st.data())
def test_a_roll_ends_and_never_has_two_processes_under_way(count: int, data: st.DataObject) -> None:
    slots = {
        wid: SlotSnapshot(wid, SlotState.FILLED, data.draw(st.integers(0, 2)), False) for wid in range(1, count + 1)
    }
    for _ in range(3 * count + 1):
        found = next_step(list(slots.values()), 2)
        if found.kind is StepKind.DONE:
            break
        if found.kind is StepKind.REPLACE:
            slots[found.wid] = SlotSnapshot(found.wid, SlotState.FILLED, slots[found.wid].generation, True)
        else:
            (wid,) = [each.wid for each in slots.values() if each.starting]
            slots[wid] = SlotSnapshot(wid, SlotState.FILLED, 2, False)
        assert sum(each.starting for each in slots.values()) <= 1
    assert {each.generation for each in slots.values()} == {2}
