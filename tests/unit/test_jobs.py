"""Jobs on a watcher, on a manual loop and a kernel of numbers: their order, and the way back of a reload."""

from __future__ import annotations

import signal

import pytest

from forkserve.supervision.completion import Completion
from forkserve.supervision.jobs.advance import Reload, Resize, Restart, Start, Stop
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.reload.change import Undo, target_given, target_left
from tests.support.supervision import World, options


def _running(**more: object) -> World:
    world = World((options(**more),))  # type: ignore[arg-type]
    world.submit(Start())
    world.all_ready()
    return world


def _reload(world: World, target: int | None = None, **more: object) -> Completion:
    offer = world.watcher().offer(world.command(options(**more)))
    return world.submit(Reload(offer=offer, target=target))


def _rehearsal_succeeds(world: World) -> None:
    (rehearsal,) = [each for each in world.kernel.living if each.rehearse]
    rehearsal.outcome = True
    world.kernel.end(rehearsal, code=0)
    world.runs(rehearsal)
    world.reap()


def _generations(world: World) -> list[int]:
    return [slot.occupant.generation for slot in world.watcher().slots.values() if slot.occupant is not None]


def _commands(world: World) -> set[str]:
    return {world.kernel.children[pid].argv[0] for pid in world.pids()}


def test_a_reload_replaces_one_process_after_the_other() -> None:
    world = _running(numprocesses=3)
    before = world.pids()
    done = _reload(world, numprocesses=3, cmd="next")
    assert len(world.pids()) == 4
    world.all_ready()

    assert done.result == "web: 3 processes replaced"
    assert _commands(world) == {"next"}
    assert _generations(world) == [2, 2, 2]
    assert not set(before) & set(world.pids())


def test_a_reload_that_fails_in_the_middle_puts_back_what_it_had_replaced() -> None:
    world = _running(numprocesses=3)
    done = _reload(world, numprocesses=3, cmd="next")
    for wid in (1, 2):
        world.runs(world.child(wid))
        world.pass_time(1.0)
    assert _generations(world) == [2, 2, 1]

    world.dies(world.child(3), code=1)
    world.all_ready()
    assert done.error is not None
    assert "reload of web failed, 1 process kept as before, 2 processes put back: web[3]" in str(done.error)
    assert _generations(world) == [1, 1, 1]
    assert _commands(world) == {"prog"}
    assert world.watcher().options.cmd == "prog"


def test_a_reload_starts_the_new_where_those_of_before_are_given_up_meanwhile() -> None:
    world = World((options(numprocesses=2, max_retry=1, cmd="missing"),))
    world.submit(Start())
    done = _reload(world, numprocesses=2, max_retry=1, cmd="next")
    for wid in (1, 2):
        world.refuses(world.child(wid))
    assert not done.done
    world.all_ready()

    assert done.result == "web: 2 processes replaced"
    assert _commands(world) == {"next"}
    assert _generations(world) == [2, 2]


def test_a_reload_tries_the_new_at_once_in_a_slot_that_was_given_up() -> None:
    world = World((options(numprocesses=2, max_retry=1, cmd="broken"),))
    world.submit(Start())
    world.dies(world.child(2), code=1)
    world.all_ready()
    assert world.watcher().slots[2].state is SlotState.FATAL
    assert len(world.pids()) == 1

    done = _reload(world, numprocesses=2, cmd="mended")
    occupant = world.watcher().slots[2].occupant
    assert occupant is not None
    assert (occupant.generation, occupant.argv) == (2, ("mended",))
    world.all_ready()
    assert done.result == "web: 2 processes replaced"


def test_a_reload_takes_another_number_of_processes() -> None:
    world = _running(numprocesses=2)
    done = _reload(world, 4, numprocesses=4, cmd="next")
    world.all_ready()
    assert done.result == "web: 4 processes replaced"
    assert _generations(world) == [2, 2, 2, 2]

    done = _reload(world, 1, numprocesses=1, cmd="fewer")
    world.all_ready()
    assert done.result == "web: 1 process replaced"
    assert (len(world.pids()), _commands(world)) == (1, {"fewer"})


def test_an_end_that_was_recorded_and_not_handled_is_made_good_for() -> None:
    world = _running(numprocesses=2)
    lost, other = world.pids()
    world.kernel.end(world.child(1), code=1)
    for each in world.kernel.reap():
        assert world.watcher().record(each) is not None
    world.settle()
    world.all_ready()
    assert lost not in world.pids()
    assert other in world.pids()
    assert len(world.pids()) == 2

    world.kernel.end(world.child(2), code=1)
    for each in world.kernel.reap():
        world.watcher().record(each)
    stop = world.submit(Stop())
    world.pass_time(1.0)
    assert stop.result == "web: stopped"


def test_a_start_runs_again_what_has_finished() -> None:
    world = _running(numprocesses=2, respawn=False)
    for wid in (1, 2):
        world.dies(world.child(wid), code=0)
    world.pass_time(10.0)
    assert world.pids() == []

    done = world.submit(Start())
    world.all_ready()
    assert done.result == "web: 2 processes running"
    assert len(world.pids()) == 2


@pytest.mark.parametrize("served", [True, False])
def test_a_code_that_nobody_can_mend_counts_only_until_something_has_served(served: bool) -> None:
    world = World((options(numprocesses=2, max_retry=5, cmd="forkserve-worker app:app"),))
    world.submit(Start())
    for wid in (1, 2) if served else ():
        world.runs(world.child(wid))
        world.says(world.child(wid), READY="1")
    world.dies(world.child(1), code=3)

    given_up = world.watcher().slots[1].state is SlotState.FATAL
    assert given_up is not served


def test_the_generation_after_one_that_was_put_back_has_a_number_of_its_own() -> None:
    world = _running(numprocesses=2)
    _reload(world, numprocesses=2, cmd="bad")
    world.dies(world.child(1), code=1)
    world.all_ready()
    done = _reload(world, numprocesses=2, cmd="better")
    world.all_ready()

    assert done.result == "web: 2 processes replaced"
    assert _generations(world) == [3, 3]


def test_a_single_process_is_stopped_only_after_a_rehearsal_of_the_next() -> None:
    world = _running(cmd="redis")
    child = world.child()
    done = _reload(world, cmd="missing")
    (rehearsal,) = [each for each in world.kernel.living if each.rehearse]
    assert child.runs
    world.refuses(rehearsal)
    world.settle()

    assert "reload of web failed, 1 process kept as before: cannot execute 'missing'" in str(done.error)
    assert child.runs
    assert world.watcher().options.cmd == "redis"


def test_a_rehearsal_that_hangs_is_given_up_and_the_process_stays() -> None:
    world = _running(cmd="redis")
    done = _reload(world, cmd="next")
    world.pass_time(5.1)

    assert "not done within 5 s" in str(done.error)
    assert len(world.pids()) == 1
    assert not [each for each in world.kernel.living if each.rehearse]


def test_a_single_process_whose_successor_fails_comes_back() -> None:
    world = _running(cmd="redis")
    done = _reload(world, cmd="next")
    _rehearsal_succeeds(world)
    assert _commands(world) == {"next"}
    world.dies(world.child(), code=1)
    world.all_ready()

    assert "reload of web failed, 0 processes kept as before, 1 process put back" in str(done.error)
    assert _commands(world) == {"redis"}
    assert _generations(world) == [1]


def test_a_singleton_becomes_three_processes_and_one_again_in_one_reload_each() -> None:
    world = _running(singleton=True)
    done = _reload(world, 3, singleton=False, numprocesses=3)
    world.all_ready()
    assert done.result == "web: 3 processes running"
    assert len(world.pids()) == 3

    done = _reload(world, 1, singleton=True, numprocesses=1)
    world.all_ready()
    assert done.result == "web: 1 process running"
    assert len(world.pids()) == 1


def test_what_is_put_back_as_a_singleton_has_one_process_whatever_was_asked_for_meanwhile() -> None:
    world = _running(singleton=True)
    done = _reload(world, 1, singleton=False, cmd="dies")
    _rehearsal_succeeds(world)
    world.submit(Resize(2))
    for child in list(world.kernel.living):
        world.dies(child, code=1)
    world.all_ready()

    assert "put back" in str(done.error)
    assert world.watcher().target == 1
    assert _commands(world) == {"prog"}


def test_a_change_of_size_that_fails_with_its_reload_is_put_back_too() -> None:
    world = _running(numprocesses=2)
    done = _reload(world, 4, numprocesses=4, cmd="bad")
    for child in list(world.kernel.living):
        if child.argv[0] == "bad":
            world.dies(child, code=1)
    world.all_ready()

    assert done.error is not None
    assert world.watcher().target == 2
    assert _commands(world) == {"prog"}
    assert len(world.pids()) == 2


@pytest.mark.parametrize("count", [1, 2], ids=["one to two", "two to four"])
def test_a_number_that_somebody_asks_for_meanwhile_outlives_a_reload_that_fails(count: int) -> None:
    world = _running(numprocesses=count)
    done = _reload(world, 2 * count, numprocesses=2 * count, cmd="bad")
    world.submit(Resize(5))
    for _ in range(20):
        for child in list(world.kernel.living):
            if child.rehearse or child.argv[0] != "bad":
                world.runs(child)
            else:
                world.dies(child, code=1)
        world.pass_time(1.0)
        if done.done:
            break
    world.all_ready()

    assert done.error is not None
    assert world.watcher().target == 5
    assert _commands(world) == {"prog"}
    assert len(world.pids()) == 5


def test_a_number_that_somebody_asks_for_while_a_reload_stops_first_is_kept() -> None:
    world = _running(singleton=True)
    child = world.child()
    child.obeys = False
    done = _reload(world, 2, numprocesses=2, cmd="next")
    _rehearsal_succeeds(world)
    world.submit(Resize(0))
    world.dies(child, code=0)
    world.all_ready()

    assert done.done
    assert world.pids() == []


@pytest.mark.parametrize(
    ("now", "back", "kept"), [(2, 2, 4), (4, 2, 4), (5, 5, 5)], ids=["not given yet", "given", "resized by somebody"]
)
def test_a_change_gives_back_the_number_that_it_gave_and_no_other(now: int, back: int, kept: int) -> None:
    world = _running(numprocesses=2)
    watcher = world.watcher()
    undo = Undo("web", watcher.command, target=2, up=True, replaced=True)
    given = target_given(undo, world.command(options(numprocesses=4)))
    watcher.resize(now)
    assert given == 4
    assert target_left(watcher, undo, given, back=True) == back
    assert target_left(watcher, undo, given, back=False) == kept


def test_send_hup_is_obeyed() -> None:
    world = _running(send_hup=True)
    child = world.child()
    child.obeys = False
    done = world.submit(Reload())

    assert done.result == "web: SIGHUP sent"
    assert world.pids() == [child.pid]


def test_a_reload_of_what_is_stopped_is_refused_and_its_offer_forgotten() -> None:
    world = World((options(),))
    done = _reload(world, cmd="next")

    assert str(done.error) == "web is stopped: start it"
    assert not world.watcher().templates.offers


def test_a_stop_supersedes_what_runs_and_what_waits() -> None:
    world = _running(numprocesses=2)
    reload = _reload(world, numprocesses=2, cmd="next")
    restart = world.submit(Restart())
    later = _reload(world, numprocesses=2, cmd="later")
    stop = world.submit(Stop())
    world.all_ready()

    assert [str(each.error) for each in (reload, restart, later)] == [
        "web: reload was superseded by stop",
        "web: restart was superseded by stop",
        "web: reload was superseded by stop",
    ]
    assert stop.result == "web: stopped"
    assert not world.watcher().templates.offers


def test_a_reload_supersedes_a_start_that_may_never_be_over() -> None:
    world = World((options(numprocesses=2, max_retry=-1),))
    start = world.submit(Start())
    for wid in (1, 2):
        world.dies(world.child(wid), code=1)
    done = world.submit(Reload())
    world.all_ready()

    assert str(start.error) == "web: start was superseded by reload"
    assert done.result == "web: 2 processes replaced"


@pytest.mark.parametrize("before", [(Start(), Start()), (Restart(),), (Start(), Restart())])
def test_a_mended_command_is_not_kept_waiting_by_starts_that_are_never_over(
    before: tuple[Start | Restart, ...],
) -> None:
    world = World((options(numprocesses=2, max_retry=-1),))
    earlier = []
    for job in (*before, Reload()):
        earlier.append(world.submit(job))
        for child in world.kernel.living:
            world.dies(child, code=1)
    mended = _reload(world, numprocesses=2, cmd="mended")
    for _ in range(20):
        for child in world.kernel.living:
            if child.argv != ("mended",):
                world.dies(child, code=1)
            elif child.outcome is False:
                world.runs(child)
        world.pass_time(1.0)

    assert all(each.done for each in earlier)
    assert mended.result == "web: 2 processes replaced"
    assert world.child().argv == ("mended",)


def test_a_singleton_waits_for_the_end_of_the_one_that_stops() -> None:
    world = _running(singleton=True)
    before = world.child()
    before.obeys = False
    world.submit(Resize(0))
    done = world.submit(Resize(1))
    world.pass_time(5.0)
    assert world.pids() == [before.pid]

    world.dies(before, code=0)
    world.all_ready()
    assert done.result == "web: 1 process running"
    assert before.pid not in world.pids()


def test_a_size_changes_beside_whatever_else_goes_on() -> None:
    world = _running(numprocesses=2, graceful_timeout=10.0)
    for child in world.kernel.living:
        child.obeys = False
    stop = world.submit(Stop())
    size = world.submit(Resize(5))

    assert size.result == "web: 5 processes when it is started"
    world.pass_time(10.1)
    assert stop.done


def test_a_watcher_that_leaves_stops_in_its_own_time_whatever_else_is_asked() -> None:
    world = _running(graceful_timeout=20.0)
    child = world.child()
    child.obeys = False
    world.submit(Stop())
    left = world.supervisor.remove("web")
    ended = world.submit(Stop())
    world.pass_time(19.9)
    assert child.ended is None
    assert [each.name for each in world.supervisor.watchers] == ["web"]
    world.pass_time(0.2)

    assert child.ended is not None
    assert child.ended.signum == signal.SIGKILL
    assert left.done
    assert ended.done
    assert not world.supervisor.watchers


def test_a_watcher_that_is_put_back_while_it_leaves_comes_back() -> None:
    world = _running(graceful_timeout=20.0)
    world.child().obeys = False
    world.supervisor.remove("web")
    assert not world.supervisor.in_force.watchers
    refused = world.submit(Start())
    assert str(refused.error) == "web is no longer configured, and is stopping"

    world.supervisor.add(world.command(options(cmd="next")))
    started = world.submit(Start())
    world.pass_time(20.1)
    world.all_ready()
    assert started.result == "web: 1 process running"
    assert _commands(world) == {"next"}


def test_a_slot_that_was_given_up_fails_the_start_and_names_the_reason() -> None:
    world = World((options(max_retry=1, numprocesses=1),))
    start = world.submit(Start())
    world.dies(world.child(), code=7)

    assert world.watcher().slots[1].state is SlotState.FATAL
    assert "1 process of 1 given up; web[1] exited with code 7" in str(start.error)
