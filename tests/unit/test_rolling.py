"""Reloads at other paces, and with a canary, on a manual loop and a kernel of numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from forkserve.errors import ControlError
from forkserve.supervision.completion import Completion
from forkserve.supervision.generations.canary import Trial
from forkserve.supervision.jobqueue.progress import progress_of
from forkserve.supervision.jobqueue.rollback import rollback_of
from forkserve.supervision.jobs.advance import Reload, Resize, Restart, Start, Stop
from forkserve.supervision.jobs.pace import RollPace, Step, StepKind, next_step, pace_of
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.snapshot import SlotSnapshot
from forkserve.supervision.state.watchers import plain
from tests.support.supervision import World, options

FILLED = SlotState.FILLED


def _running(**more: object) -> World:
    world = World((options(**more),))  # type: ignore[arg-type]
    world.submit(Start())
    world.all_ready()
    return world


def _canary(world: World, canary: int = 1, watch: float = 5.0, **more: object) -> Completion:
    offer = world.watcher().offer(world.command(options(**more)))
    return world.submit(Reload(offer=offer, canary=canary, watch=watch))


def _readies(world: World, wid: int) -> None:
    world.runs(world.child(wid))
    world.pass_time(1.0)


def _commands(world: World) -> list[str]:
    slots = sorted(world.watcher().slots.items())
    return [slot.occupant.argv[0] for _, slot in slots if slot.occupant is not None]


@pytest.mark.parametrize(
    ("pace", "slots", "expected"),
    [
        (RollPace(2, 0), [SlotSnapshot(1, FILLED, 1, True, True), SlotSnapshot(2, FILLED, 1, False)], "replace 2"),
        (RollPace(0, 1), [SlotSnapshot(1, FILLED, 1, False), SlotSnapshot(2, FILLED, 1, False)], "stop first 1"),
        (RollPace(0, 1), [SlotSnapshot(1, FILLED, 1, True), SlotSnapshot(2, FILLED, 1, False)], "wait 0"),
        (RollPace(1, 1), [SlotSnapshot(1, FILLED, 1, True, True), SlotSnapshot(2, FILLED, 1, False)], "stop first 2"),
        (RollPace(0, 2), [SlotSnapshot(1, FILLED, 2, True), SlotSnapshot(2, FILLED, 1, False)], "stop first 2"),
        (RollPace(2, 2), [SlotSnapshot(1, FILLED, 2, False), SlotSnapshot(2, FILLED, 2, False)], "done 0"),
    ],
)
def test_the_next_step_at_another_pace(pace: RollPace, slots: list[SlotSnapshot], expected: str) -> None:
    found = next_step(slots, 2, pace)
    assert f"{found.kind.value} {found.wid}" == expected
    assert isinstance(found, Step) and isinstance(found.kind, StepKind)


@pytest.mark.parametrize(
    ("more", "target", "expected"),
    [
        ({}, 4, RollPace(1, 0)),
        ({"max_surge": "25%"}, 5, RollPace(2, 0)),
        ({"max_surge": "0", "max_unavailable": "25%"}, 8, RollPace(0, 2)),
        ({"max_surge": "0", "max_unavailable": "25%"}, 3, RollPace(0, 1)),
        ({"max_surge": "3", "max_unavailable": "50%"}, 5, RollPace(3, 2)),
        ({"max_surge": "0", "max_unavailable": "1", "respawn": False}, 5, RollPace(1, 0)),
    ],
)
def test_a_pace_is_a_number_or_a_percentage_as_in_kubernetes(
    more: dict[str, object], target: int, expected: RollPace
) -> None:
    assert pace_of(options(**more), target) == expected  # type: ignore[arg-type]


def test_a_surge_of_two_starts_two_at_a_time() -> None:
    world = _running(numprocesses=4, max_surge="2")
    done = world.submit(Reload())
    assert len(world.pids()) == 6
    world.all_ready()
    assert done.result == "web: 4 processes replaced"


def test_all_successors_start_at_once_where_that_is_asked_for() -> None:
    world = _running(numprocesses=4)
    done = world.submit(Reload(at_once=True))
    assert len(world.pids()) == 8
    world.all_ready()
    assert done.result == "web: 4 processes replaced"
    assert len(world.pids()) == 4


def test_without_a_surge_the_old_are_stopped_first_and_no_more_than_may_be_missing() -> None:
    world = _running(numprocesses=3, max_surge="0", max_unavailable="1")
    first = world.child(1)
    done = world.submit(Reload())
    assert len(world.pids()) == 3
    assert not first.runs or first.signals
    world.all_ready()
    assert done.result == "web: 3 processes replaced"
    assert {slot.occupant.generation for slot in world.watcher().slots.values() if slot.occupant} == {2}


def test_a_failure_calls_off_all_that_are_under_way_and_puts_back_the_rest() -> None:
    world = _running(numprocesses=3, max_surge="3")
    offer = world.watcher().offer(world.command(options(numprocesses=3, cmd="next", max_surge="3")))
    done = world.submit(Reload(offer=offer))
    assert len(world.pids()) == 6
    world.dies(world.child(2), code=1)
    world.all_ready()
    assert "reload of web failed, 3 processes kept as before: web[2]" in str(done.error)
    assert _commands(world) == ["prog", "prog", "prog"]
    assert len(world.pids()) == 3


def test_a_canary_is_one_slot_until_its_time_is_over_then_the_rest_follows() -> None:
    world = _running(numprocesses=3)
    done = _canary(world, numprocesses=3, cmd="next")
    _readies(world, 3)
    assert _commands(world) == ["prog", "prog", "next"]
    assert "canary web[3] compared for" in progress_of(world.queue(), world.loop.clock)
    world.pass_time(3.0)
    assert _commands(world) == ["prog", "prog", "next"]
    world.pass_time(2.5)
    world.all_ready()
    assert done.result == "web: 3 processes replaced"
    assert _commands(world) == ["next", "next", "next"]


def test_an_old_process_that_dies_meanwhile_comes_back_as_it_was() -> None:
    world = _running(numprocesses=3)
    done = _canary(world, numprocesses=3, cmd="next")
    _readies(world, 3)
    world.dies(world.child(1), code=0)
    _readies(world, 1)
    assert _commands(world) == ["prog", "prog", "next"]
    world.all_ready()
    world.pass_time(6.0)
    world.all_ready()
    assert done.result == "web: 3 processes replaced"


def test_a_comparison_can_be_written_down_and_read_back() -> None:
    world = _running(numprocesses=2)
    done = _canary(world, numprocesses=2, cmd="next")
    _readies(world, 2)
    world.pass_time(1.0)
    watcher, job = world.watcher(), world.queue().current
    trial = watcher.canary.trial
    assert trial is not None and job is not None
    watcher.canary.trial = msgspec.convert(json.loads(json.dumps(plain(trial))), Trial)
    assert watcher.canary.trial == trial
    job.job = msgspec.convert(json.loads(json.dumps(plain(job.job))), Reload)
    world.pass_time(6.0)
    world.all_ready()
    assert done.result == "web: 2 processes replaced"


def test_a_canary_that_dies_is_rolled_back_with_the_reason() -> None:
    world = _running(numprocesses=3)
    done = _canary(world, numprocesses=3, cmd="next")
    _readies(world, 3)
    world.dies(world.child(3), code=3)
    world.pass_time(0.3)
    world.all_ready()
    assert "2 processes kept as before, 1 process put back: the canary is worse: 1 crashed of" in str(done.error)
    assert _commands(world) == ["prog", "prog", "prog"]
    assert world.watcher().canary.trial is None


def test_a_stop_of_a_canary_forgets_the_generation_that_was_not_found_good() -> None:
    world = _running(numprocesses=2)
    done = _canary(world, numprocesses=2, cmd="next")
    _readies(world, 2)
    world.submit(Stop())
    assert "superseded by stop" in str(done.error)
    world.all_ready()
    world.submit(Start())
    world.all_ready()
    assert _commands(world) == ["prog", "prog"]


def test_a_canary_whose_slot_is_taken_away_is_rolled_back() -> None:
    world = _running(numprocesses=3)
    done = _canary(world, numprocesses=3, cmd="next")
    _readies(world, 3)
    world.submit(Resize(2))
    world.all_ready()
    assert "a slot of the canary was taken away (decr, stop)" in str(done.error)
    assert _commands(world) == ["prog", "prog"]


@pytest.mark.parametrize(
    ("more", "canary", "reason"),
    [
        ({"numprocesses": 2}, 2, "have 3 (numprocesses), or max_surge = 1"),
        ({"numprocesses": 1, "singleton": True}, 1, "is a singleton"),
        ({"numprocesses": 1}, 1, "no socket to share with a canary"),
        ({"numprocesses": 2, "send_hup": True}, 1, "reloads by SIGHUP"),
    ],
)
def test_where_no_canary_can_be_one_line_says_why(more: dict[str, object], canary: int, reason: str) -> None:
    world = _running(**more)
    before = world.pids()
    done = _canary(world, canary, **more)
    assert reason in str(done.error)
    assert "\n" not in str(done.error)
    assert world.pids() == before


@pytest.mark.parametrize("is_good", [True, False])
def test_a_canary_may_run_beside_all_where_max_surge_is_set(is_good: bool) -> None:
    more = {"numprocesses": 2, "max_surge": "1"}
    world = _running(**more)
    done = _canary(world, 2, cmd="next", **more)
    for wid in (3, 2, 3):
        if world.child(wid).outcome is False:
            _readies(world, wid)
    assert _commands(world) == ["prog", "next", "next"]
    if is_good:
        world.pass_time(6.0)
    else:
        world.dies(world.child(2), code=1)
        world.pass_time(0.3)
    world.all_ready()
    assert (done.error is None) is is_good
    assert _commands(world) == (["next"] if is_good else ["prog"]) * 2
    assert world.watcher().target == 2


def _folders(world: World) -> list[str]:
    return [each.folder for _, each in sorted((p.wid, p) for p in world.processes()) if each.is_ready]


def _released(world: World, release: int) -> Completion:
    world.kernel.folder = f"/srv/releases/{release}"
    done = world.submit(Reload())
    world.all_ready()
    return done


def test_a_rollback_starts_the_last_good_generation_in_its_folder_and_a_reload_follows_the_link_again() -> None:
    world = _running(numprocesses=2)
    for release in (2, 3):
        _released(world, release)
    for back_to, release in ((2, 2), (1, 1)):
        done = world.submit(rollback_of(world.watcher(), {}))
        world.all_ready()
        assert done.result == f"web: 2 processes replaced, back to generation {back_to}"
        assert _folders(world) == [f"/srv/releases/{release}"] * 2
    with pytest.raises(ControlError, match="no other command or release is known that was good before"):
        rollback_of(world.watcher(), {})

    world.submit(Restart())
    world.all_ready()
    assert _folders(world) == ["/srv/releases/1"] * 2
    _released(world, 3)
    assert _folders(world) == ["/srv/releases/3"] * 2


def test_what_a_canary_was_compared_with_can_be_gone_back_to_although_its_start_was_never_through() -> None:
    world = World((options(numprocesses=2),))
    world.submit(Start())
    _readies(world, 1)
    done = _canary(world, numprocesses=2, cmd="next")
    world.all_ready()
    world.pass_time(6.0)
    world.all_ready()
    assert done.result == "web: 2 processes replaced"
    assert world.watcher().templates.good == [1, 2]


def test_a_rollback_to_a_folder_that_is_gone_replaces_nothing() -> None:
    world = _running(numprocesses=2)
    _released(world, 2)
    before = world.pids()
    done = world.submit(rollback_of(world.watcher(), {}))
    (rehearsal,) = [each for each in world.kernel.living if each.rehearse]
    world.refuses(rehearsal)
    world.settle()
    assert "reload of web failed, 2 processes kept as before: cannot execute" in str(done.error)
    assert world.pids() == before
    assert world.watcher().templates.last_good == 1


def test_what_is_put_back_after_a_failure_stays_in_the_old_folder() -> None:
    world = _running(numprocesses=2)
    world.kernel.folder = "/srv/releases/2"
    done = world.submit(Reload())
    _readies(world, 1)
    world.dies(world.child(2), code=1)
    world.all_ready()
    assert "1 process put back" in str(done.error)
    assert _folders(world) == ["/srv/releases/1"] * 2
    world.dies(world.child(1), code=0)
    world.all_ready()
    assert _folders(world) == ["/srv/releases/1"] * 2


def test_a_rollback_without_a_socket_of_then_says_which() -> None:
    world = _running(numprocesses=2)
    _released(world, 2)
    templates = world.watcher().templates
    templates.by_generation[1] = replace(templates.by_generation[1], sockets=("api",))
    with pytest.raises(ControlError, match="generation 1 had socket api, which is"):
        rollback_of(world.watcher(), {"web": 1})


@pytest.mark.parametrize("says", [True, False], ids=["says that it stops", "says nothing"])
def test_a_reload_ends_when_the_last_old_worker_has_stopped_accepting(says: bool) -> None:
    world = World((options(cmd="forkserve-worker --bind :8000 site:app", numprocesses=2),))
    world.submit(Start())
    old = {wid: world.child(wid) for wid in (1, 2)}
    for each in old.values():
        each.obeys = False
        world.runs(each)
        world.says(each, READY="1")
    reload = world.submit(Reload())
    for wid in (1, 2):
        new = world.child(wid)
        assert new is not old[wid]
        world.runs(new)
        world.says(new, READY="1")
        if wid == 1 or not says:
            continue
        assert not reload.done, "the last old worker was told to stop, and may still accept"
        for each in old.values():
            world.says(each, STOPPING="1")
    if not says:
        assert not reload.done
        world.pass_time(1.1)
    assert reload.done and reload.error is None
