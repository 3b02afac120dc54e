"""Reloads and starts that take longer than a process lives, on a manual loop and a kernel of numbers.

With many processes and a short `max_age`, `max_requests` or memory limit, one of them is always being renewed: a job
must not wait for an instant at which none is.
"""

from __future__ import annotations

import pytest

from forkserve.supervision.completion import Completion
from forkserve.supervision.events import ProcessAged
from forkserve.supervision.jobs.advance import Reload, Resize, Start
from forkserve.supervision.jobs.pace import RollPace, Step, StepKind, next_step
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.snapshot import SlotSnapshot
from tests.support.supervision import World, options

FILLED = SlotState.FILLED
STEP = 0.5
"""Seconds between two looks; a process is ready after 1 s."""


def _execs(world: World) -> None:
    for each in world.kernel.living:
        if each.outcome is False and each.ended is None:
            world.runs(each)
    world.reap()


def _ages_until(world: World, done: Completion, seconds: float) -> None:
    """Have every program run, and let time pass until the job is over."""
    for _ in range(int(seconds / STEP)):
        if done.done:
            return
        _execs(world)
        world.pass_time(STEP)
    raise AssertionError(world.texts()[-10:])


def _recycles_until(world: World, done: Completion, seconds: float) -> None:
    """Do the same while the process that has served for the longest time ends by itself each second."""
    for turn in range(int(seconds / STEP)):
        if done.done:
            return
        _execs(world)
        world.pass_time(STEP)
        serving = [each for each in world.processes() if each.is_ready]
        if turn % 2 and serving:
            oldest = min(serving, key=lambda each: each.ready_at or 0.0)
            world.dies(world.kernel.children[oldest.pid], code=0)
    raise AssertionError(world.texts()[-10:])


def _running(**more: object) -> World:
    world = World((options(**more),))  # type: ignore[arg-type]
    done = world.submit(Start())
    _ages_until(world, done, 60.0)
    return world


def _reload(world: World, **more: object) -> Completion:
    offer = world.watcher().offer(world.command(options(**more)))
    return world.submit(Reload(offer=offer))


def _generations(world: World) -> set[int]:
    return {slot.occupant.generation for slot in world.watcher().slots.values() if slot.occupant is not None}


@pytest.mark.parametrize("pace", [{}, {"max_surge": "2"}, {"max_surge": "0", "max_unavailable": "1"}])
def test_a_reload_that_takes_longer_than_a_process_may_live_completes(pace: dict[str, object]) -> None:
    world = _running(numprocesses=8, **pace)
    done = _reload(world, numprocesses=8, cmd="next", max_age=3.0, **pace)
    _ages_until(world, done, 60.0)
    assert done.result == "web: 8 processes replaced"
    assert _generations(world) == {2}
    assert any(isinstance(each, ProcessAged) for each in world.events), "it must have been in the way"


def test_a_reload_of_processes_that_end_by_themselves_completes() -> None:
    world = _running(numprocesses=6)
    done = _reload(world, numprocesses=6, cmd="next")
    _recycles_until(world, done, 60.0)
    assert done.result == "web: 6 processes replaced"


def test_a_reload_that_fails_is_undone_although_processes_are_renewed_all_the_time() -> None:
    world = _running(numprocesses=8, max_age=3.0)
    done = _reload(world, numprocesses=8, cmd="next", max_age=3.0)
    for _ in range(3):
        _execs(world)
        world.pass_time(STEP)
    new = next(each for each in world.processes() if each.generation == 2 and each.ready_at is None)
    world.dies(world.kernel.children[new.pid], code=1)
    _ages_until(world, done, 60.0)
    assert "reload of web failed" in str(done.error)
    assert _generations(world) == {1}


def test_a_canary_of_many_is_compared_although_its_processes_are_renewed_all_the_time() -> None:
    world = _running(numprocesses=9)
    offer = world.watcher().offer(world.command(options(numprocesses=9, cmd="next", max_age=3.0)))
    done = world.submit(Reload(offer=offer, canary=6, watch=4.0))
    _ages_until(world, done, 90.0)
    assert done.result == "web: 9 processes replaced"


def test_a_start_that_takes_longer_than_a_process_may_live_completes() -> None:
    world = World((options(numprocesses=10, warmup_delay=0.5, max_age=3.0),))
    done = world.submit(Start())
    _ages_until(world, done, 60.0)
    assert done.error is None


def test_a_start_of_processes_that_end_by_themselves_completes() -> None:
    world = World((options(numprocesses=6, warmup_delay=1.0),))
    done = world.submit(Start())
    _recycles_until(world, done, 60.0)
    assert done.error is None


def test_a_watcher_begins_after_one_whose_processes_are_renewed_all_the_time() -> None:
    world = World((options("db", numprocesses=6, warmup_delay=1.0), options("web", after=("db",))))
    started = [world.submit(Start(), "db"), world.submit(Start(), "web")]
    for turn in range(60):
        _execs(world)
        world.pass_time(STEP)
        serving = [each for each in world.processes("db") if each.is_ready]
        if turn % 2 and serving:
            oldest = min(serving, key=lambda each: each.ready_at or 0.0)
            world.dies(world.kernel.children[oldest.pid], code=0)
    assert all(each.done and each.error is None for each in started)


def test_more_processes_that_come_during_a_reload_delay_neither() -> None:
    world = _running(numprocesses=6)
    done = _reload(world, numprocesses=6, cmd="next", max_age=3.0)
    resized = world.submit(Resize(9))
    _ages_until(world, done, 60.0)
    _ages_until(world, resized, 60.0)
    assert done.result == "web: 9 processes replaced"
    assert resized.error is None


def test_a_start_waits_again_for_a_process_that_is_down_when_it_is_asked_for() -> None:
    world = _running(numprocesses=2)
    world.dies(world.child(1), code=0)
    done = world.submit(Start())
    assert not done.done
    _ages_until(world, done, 10.0)
    assert done.result == "web: 2 processes running"


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (RollPace(1, 0), Step(StepKind.REPLACE, 3)),
        (RollPace(0, 1), Step(StepKind.WAIT)),
        (RollPace(0, 2), Step(StepKind.STOP_FIRST, 3)),
    ],
    ids=["a successor may start", "one is missing already", "two may be missing"],
)
def test_what_is_renewed_meanwhile_counts_only_where_a_process_would_be_missing(pace: RollPace, expected: Step) -> None:
    slots = [
        SlotSnapshot(1, FILLED, 2, True, surging=True, serves=2),
        SlotSnapshot(2, FILLED, 2, True, serves=2),
        SlotSnapshot(3, FILLED, 1, False, serves=1),
    ]
    assert next_step(slots, 2, pace) == expected


def test_a_process_that_is_too_old_before_it_serves_is_let_be_by_a_command_without_max_age() -> None:
    world = World((options(numprocesses=2, max_age=0.4),))
    world.submit(Start())
    offer = world.watcher().offer(world.command(options(numprocesses=2, max_age=0.0)))
    done = world.submit(Reload(offer=offer))
    world.pass_time(STEP)  # their programs are not executed yet
    _ages_until(world, done, 10.0)
    assert done.error is None
    assert [each.generation for each in world.processes()] == [2, 2]
