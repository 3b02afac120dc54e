"""Timers on a manual loop: when runs begin, what is told of them, and what becomes of them in a stop or an upgrade."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime

import pytest

from forkserve.config.schedules import Overlap
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import Event
from forkserve.supervision.jobs.advance import Reload, Resize, RunOnce, Start, Stop
from forkserve.supervision.metrics.exposition import prometheus
from forkserve.supervision.metrics.observatory import Observatory
from forkserve.supervision.metrics.report import MasterFacts, families
from forkserve.supervision.snapshot import WatcherState
from forkserve.supervision.views import state_of, view_of
from tests.support.supervision import World, options

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()


def _timer(**more: object) -> World:
    """Return a world at five to twelve, with a timer that comes every ten minutes, from twelve on."""
    world = World((options("job", **{"schedule": "*/10 * * * *", "time_zone": "UTC", **more}),))
    world.wall_ahead = NOON - 300 - world.loop.clock
    world.submit(Start(), "job")
    return world


def _events(world: World, kind: str) -> list[Event]:
    return [each for each in world.events if each.kind == kind]


def _begun(world: World) -> list[int]:
    return [each.run for each in _events(world, "timer.begun")]  # type: ignore[attr-defined]


def _run_now(world: World) -> Completion:
    return world.submit(RunOnce(), "job")


def _ends(world: World, *, wid: int = 1, code: int = 0) -> None:
    child = world.child(wid, "job")
    world.runs(child)
    world.dies(child, code=code)


def test_a_run_begins_when_it_is_due_and_no_process_is_kept() -> None:
    world = _timer()
    assert world.pids("job") == []
    world.pass_time(299.0)
    assert world.pids("job") == []
    assert view_of(world.watcher("job"), world.loop.clock).timer.next_at == NOON  # type: ignore[union-attr]

    world.pass_time(1.0)
    assert len(world.pids("job")) == 1
    _ends(world, code=3)

    (ended,) = _events(world, "timer.ended")
    assert (ended.run, ended.code, ended.level) == (1, 3, 30)  # type: ignore[attr-defined]
    assert ended.text() == "job: run 1 exited with code 3 after 0.000 s"
    world.pass_time(599.0)
    assert (world.pids("job"), len(world.kernel.children)) == ([], 1)
    world.pass_time(1.0)
    assert len(world.pids("job")) == 1
    assert not world.bugs()


def test_a_timer_is_active_between_its_runs_and_nothing_waits_for_it() -> None:
    world = World((options("job", schedule="@daily"), options("web", after=("job",))))
    start = world.submit(Start(), "job")
    assert start.result == "job: runs by its schedule"
    world.submit(Start(), "web")
    assert len(world.pids("web")) == 1
    assert state_of(world.watcher("job")) is WatcherState.ACTIVE


@pytest.mark.parametrize(("overlap", "at_once", "in_all"), [("skip", 1, 2), ("queue", 1, 2), ("allow", 3, 3)])
def test_runs_overlap_only_where_that_is_allowed(overlap: str, at_once: int, in_all: int) -> None:
    world = _timer(overlap=Overlap(overlap))
    for seconds in (300.0, 600.0, 600.0):
        world.pass_time(seconds)
        world.runs(world.child(len(world.pids("job")), "job"))
    assert len(world.pids("job")) == at_once

    for wid in range(1, at_once + 1):
        _ends(world, wid=wid)
    if overlap == "skip":
        world.pass_time(600.0)
    assert len(_begun(world)) == in_all
    skipped = _events(world, "timer.skipped")
    assert len(skipped) == {"skip": 2, "queue": 1, "allow": 0}[overlap]
    if skipped:
        assert f"run 1 has been going on for {'10' if overlap == 'skip' else '20'} min" in skipped[0].text()
    assert not world.bugs()


def test_a_run_that_has_waited_begins_when_the_one_before_is_over() -> None:
    world = _timer(overlap=Overlap.QUEUE)
    world.pass_time(300.0)
    world.runs(world.child(name="job"))
    world.pass_time(600.0)
    _ends(world)
    assert [each.cause for each in _events(world, "timer.begun")] == ["schedule", "queued"]  # type: ignore[attr-defined]
    assert len(world.pids("job")) == 1


@pytest.mark.parametrize("count", [24, 130])
def test_many_runs_that_end_at_once_are_all_over(count: int) -> None:
    world = _timer(overlap=Overlap.ALLOW)
    asked = [_run_now(world) for _ in range(count)]
    for child in world.kernel.living:
        world.runs(child)
        world.kernel.end(child, code=4)
    world.reap()
    assert all(each.done for each in asked)
    assert sum(each.code == 4 for each in asked) == min(count, 100)
    assert all("not kept" in str(each.error) for each in asked if each.code != 4)


@pytest.mark.parametrize("catch_up", [False, True])
def test_what_was_missed_is_told_and_made_up_for_by_one_run_if_asked(catch_up: bool) -> None:
    world = _timer(catch_up=catch_up)
    world.wall_ahead += 3600.0 - 180.0  # the machine sleeps until 12:52
    world.pass_time(30.0)

    (missed,) = _events(world, "timer.missed")
    assert (missed.count, missed.catch_up) == (6, catch_up)  # type: ignore[attr-defined]
    assert "6 runs were missed since 2026-11-27 12:00:00 UTC" in missed.text()
    assert len(_begun(world)) == int(catch_up)


def test_a_clock_that_is_set_back_repeats_no_run() -> None:
    world = _timer()
    world.pass_time(300.0)
    _ends(world)
    world.wall_ahead -= 600.0
    world.pass_time(900.0)
    assert _begun(world) == [1]
    world.pass_time(300.0)
    assert _begun(world) == [1, 2]


def test_a_clock_that_was_far_ahead_is_told_and_the_schedule_goes_on() -> None:
    world = _timer()
    world.wall_ahead -= 5 * 3600.0
    world.pass_time(30.0)
    assert any("the clock was set back by 5.0 h" in text for text in world.texts())
    world.pass_time(600.0)
    assert _begun(world) == [1]


def test_a_jitter_delays_each_start() -> None:
    world = _timer(schedule_jitter=60.0)  # half of it, by the world's dice
    world.pass_time(329.0)
    assert _begun(world) == []
    world.pass_time(1.5)
    assert _begun(world) == [1]


def test_a_run_is_stopped_when_its_time_is_over_and_killed_when_it_does_not_obey() -> None:
    world = _timer(run_timeout=20.0, graceful_timeout=5.0)
    world.pass_time(300.0)
    child = world.child(name="job")
    world.runs(child)
    child.obeys = False
    world.pass_time(20.5)
    assert any("has run for 20 s (run_timeout): stopping it" in text for text in world.texts())
    assert child.ended is None
    world.pass_time(6.0)
    (ended,) = _events(world, "timer.ended")
    assert "SIGKILL (run_timeout)" in ended.text()
    assert world.pids("job") == []


def test_a_program_that_is_not_there_is_a_run_that_failed_and_is_tried_at_the_next() -> None:
    world = _timer()
    world.pass_time(300.0)
    world.refuses(world.child(name="job"))
    (ended,) = _events(world, "timer.ended")
    assert ended.text().startswith("job: run 1 cannot execute 'prog'")
    world.pass_time(600.0)
    assert _begun(world) == [1, 2]


def test_a_run_for_which_the_machine_is_short_of_something_is_tried_again() -> None:
    world = _timer()
    world.kernel.short_of = errno.EAGAIN
    world.pass_time(300.2)
    assert (_begun(world), _events(world, "timer.ended")) == ([1], [])
    world.kernel.short_of = 0
    world.pass_time(1.0)
    _ends(world)
    assert len(_events(world, "timer.ended")) == 1


def test_a_run_that_cannot_begin_after_all_is_over_and_the_next_begins() -> None:
    world = _timer()
    world.kernel.short_of = errno.EAGAIN
    asked = _run_now(world)
    world.settle()
    assert not asked.done
    world.kernel.short_of = errno.EPERM
    world.pass_time(1.0)
    assert asked.error is not None or asked.code != 0
    world.kernel.short_of = 0
    world.pass_time(300.0)
    assert _begun(world) == [1, 2]


def test_run_begins_at_once_and_answers_with_the_exit_code() -> None:
    world = _timer()
    asked = _run_now(world)
    assert not asked.done
    _ends(world, code=4)
    assert (asked.result, asked.code) == ("job: run 1 exited with code 4 after 0.000 s", 4)

    by_signal = _run_now(world)
    world.dies(world.child(name="job"), signum=9)
    assert by_signal.code == 137


def test_run_is_refused_while_another_goes_on_or_waits_for_it() -> None:
    world = _timer()
    _run_now(world)
    assert "run 1 goes on" in str(_run_now(world).error)

    world = _timer(overlap=Overlap.QUEUE)
    _run_now(world)
    waits = _run_now(world)
    _ends(world, code=1)
    assert not waits.done
    _ends(world, code=2)
    assert waits.code == 2


def test_run_works_on_a_timer_that_is_stopped() -> None:
    world = _timer()
    world.submit(Stop(), "job")
    asked = _run_now(world)
    assert state_of(world.watcher("job")) is WatcherState.ACTIVE
    _ends(world)
    assert asked.code == 0
    assert state_of(world.watcher("job")) is WatcherState.STOPPED
    world.pass_time(1000.0)
    assert _begun(world) == [1]


def test_the_run_of_a_timer_that_is_stopped_has_its_deadlines() -> None:
    world = World((options("job", schedule="@daily"),))
    asked = _run_now(world)
    world.pass_time(5.5)
    assert "not done within 5 s" in str(asked.result)
    assert asked.code == 127


def test_what_is_no_timer_is_not_run_and_a_timer_is_not_resized() -> None:
    world = World((options(),))
    assert "has no schedule" in str(world.submit(RunOnce()).error)
    assert "each run is one process" in str(_timer().submit(Resize(3), "job").error)


def test_a_stop_ends_the_run_and_the_schedule() -> None:
    world = _timer()
    world.pass_time(300.0)
    world.runs(world.child(name="job"))
    stopped = world.submit(Stop(), "job")
    world.reap()
    assert stopped.result == "job: stopped"
    (ended,) = _events(world, "timer.ended")
    assert "SIGTERM" in ended.text()
    world.pass_time(3000.0)
    assert _begun(world) == [1]


def test_a_reload_leaves_the_run_alone_and_the_next_one_has_the_new_command() -> None:
    world = _timer()
    world.pass_time(300.0)
    old = world.child(name="job")
    world.runs(old)
    offer = world.watcher("job").offer(world.command(options("job", schedule="*/10 * * * *", cmd="other")))
    reloaded = world.submit(Reload(offer=offer), "job")
    world.all_ready()
    assert reloaded.result == "job: the next run has the new command"
    assert "nothing to replace" in str(world.submit(Reload(), "job").result)
    assert old.ended is None
    world.dies(old, code=0)
    world.pass_time(600.0)
    assert world.child(name="job").argv == ("other",)


def test_another_schedule_is_followed_at_once_without_a_run_for_the_past() -> None:
    world = _timer()
    world.pass_time(20.0)
    watcher = world.watcher("job")
    watcher.adopt(world.command(options("job", schedule="55 * * * *", time_zone="UTC")))
    world.settle()
    world.pass_time(3500.0)
    assert _begun(world) == []
    world.pass_time(100.0)
    assert _begun(world) == [1]


def test_a_watcher_may_become_a_timer_and_a_timer_a_watcher() -> None:
    world = World((options("job"),))
    world.submit(Start(), "job")
    world.all_ready()
    world.watcher("job").adopt(world.command(options("job", schedule="@daily")))
    world.settle()
    world.reap()
    assert world.pids("job") == []
    world.watcher("job").adopt(world.command(options("job")))
    world.settle()
    world.all_ready()
    assert len(world.pids("job")) == 1
    assert not world.bugs()


def test_a_timer_that_becomes_a_watcher_during_a_run_keeps_its_processes() -> None:
    world = _timer(cmd="silent")
    world.pass_time(300.0)
    world.watcher("job").adopt(world.command(options("job", cmd="other")))
    world.settle()
    world.pass_time(6.0)  # the run is not heard of
    world.reap()
    world.all_ready()
    assert [each.argv[0] for each in world.kernel.living] == ["other"]


def test_a_run_of_a_former_timer_is_over_and_leaves_the_slots_alone() -> None:
    world = _timer()
    world.pass_time(300.0)
    run = world.child(name="job")
    world.runs(run)
    world.watcher("job").adopt(world.command(options("job", cmd="other", respawn=False)))
    world.settle()
    assert [each.text() for each in _events(world, "timer.ended")] == ["job: run 1 lost its schedule after 0.000 s"]
    world.dies(run, code=0)
    world.all_ready()
    (other,) = world.kernel.living
    world.dies(other, code=0)
    world.pass_time(60.0)
    assert world.pids("job") == [], "its process has finished, and is not to come again"
    assert world.watcher("job").is_settled
    assert len(_events(world, "timer.ended")) == 1


def test_a_timer_goes_on_in_another_program() -> None:
    world = _timer(overlap=Overlap.QUEUE)
    asked = _run_now(world)
    world.runs(world.child(name="job"))
    world.pass_time(300.0)  # the run of twelve waits
    text = world.written()
    assert json.loads(text)
    world.read(text)
    assert not asked.done

    _ends(world, code=7)
    assert [each.code for each in _events(world, "timer.ended")] == [7]  # type: ignore[attr-defined]
    assert [each.cause for each in _events(world, "timer.begun")] == ["asked", "queued"]  # type: ignore[attr-defined]
    _ends(world)
    world.pass_time(600.0)
    assert _begun(world) == [1, 2, 3]
    assert not world.bugs()


def test_what_becomes_of_runs_is_counted_and_told_as_metrics() -> None:
    world = _timer()
    watcher = world.watcher("job")
    world.pass_time(300.0)
    world.runs(world.child(name="job"))
    world.pass_time(600.0)  # a run is skipped
    _ends(world)
    world.pass_time(600.0)
    _ends(world, code=1)
    state = watcher.timer.state
    assert state.counts == {"skipped": 1, "good": 1, "failed": 1}
    assert state.last_good == NOON + 600.0

    facts = MasterFacts("1", "", 0.0, is_ready=True)
    found = families(world.supervisor, Observatory(world.supervisor, world.loop), facts, world.loop.clock)
    text = prometheus([each for each in found if each is not None]).decode()
    assert 'forkserve_timer_runs_total{watcher="job",result="failed"} 1' in text
    assert 'forkserve_timer_runs_total{watcher="job",result="missed"} 0' in text
    assert 'forkserve_workers_wanted{watcher="job"} 0' in text
