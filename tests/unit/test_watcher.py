"""A watcher and its slots on a manual loop and a kernel of numbers: requests, deaths, deadlines, barriers."""

from __future__ import annotations

import errno
import signal

import pytest

from forkserve.supervision.events import Event, NotifyRefused, ProcessStarted
from forkserve.supervision.jobs.advance import Start, Stop
from forkserve.supervision.lifecycle import ProcessState, SlotState
from forkserve.supervision.process import EXEC_PATIENCE, Process
from forkserve.supervision.processes.notifications import LONGEST_STATUS
from forkserve.supervision.processes.pacing import AT_A_TIME
from tests.support.supervision import World, options


def _started(*watchers: object, **more: object) -> World:
    world = World(watchers or (options(**more),))  # type: ignore[arg-type]
    for watcher in world.supervisor.watchers:
        world.submit(Start(), watcher.name)
    return world


def _events(world: World, kind: str) -> list[Event]:
    return [each for each in world.events if each.kind == kind]


def test_a_process_is_requested_and_counts_as_started_when_its_program_runs() -> None:
    world = _started()
    (process,) = world.processes()

    assert process.state is ProcessState.REQUESTED
    assert not _events(world, "process.started")

    world.runs(world.child())

    assert process.state is ProcessState.SPAWNING
    assert _events(world, "process.started") == [
        ProcessStarted(watcher="web", wid=1, pid=process.pid, generation=1, argv=("prog",))
    ]
    world.pass_time(1.0)
    assert process.is_ready


def test_a_program_whose_exec_hangs_is_killed_at_its_deadline_and_tried_again() -> None:
    world = _started()
    first = world.child()
    world.pass_time(EXEC_PATIENCE - 0.1)
    assert first.ended is None

    world.pass_time(0.2)
    assert first.ended is not None
    assert first.ended.signum == signal.SIGKILL
    assert "cannot execute 'prog': not done within 5 s" in world.watcher().slots[1].reason
    assert world.watcher().slots[1].state is SlotState.BACKOFF
    assert not _events(world, "process.started")

    world.pass_time(0.5)
    world.all_ready()
    assert world.watcher().is_settled


def test_a_refusal_is_read_before_the_exit_is_judged_whichever_is_noticed_first() -> None:
    world = _started()
    world.kernel.refuse(world.child())
    world.reap()

    assert world.watcher().slots[1].reason == "cannot execute 'prog'"
    assert [each.kind for each in world.events][-1] == "process.failed"


def test_a_program_that_ran_and_ended_before_its_report_was_read_has_started() -> None:
    world = _started()
    world.dies(world.child(), code=3)

    kinds = [each.kind for each in world.events]
    assert kinds[:2] == ["process.started", "process.exited"]
    assert world.watcher().slots[1].state is SlotState.BACKOFF


def test_what_a_process_says_before_its_report_was_read_counts() -> None:
    world = _started()
    child = world.child()
    child.outcome = True
    world.says(child, READY="1")

    assert world.processes()[0].is_ready


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_machine_short_of_something_is_waited_for(number: int) -> None:
    world = World((options(max_retry=1, backoff=0.5),))
    world.kernel.short_of = number
    started = world.submit(Start())
    world.pass_time(20.0)
    assert not started.done

    world.kernel.short_of = 0
    world.all_ready()
    assert started.result == "web: 1 process running"


def test_a_death_right_after_ready_is_backed_off_and_given_up() -> None:
    world = _started(max_retry=3, backoff=0.5)
    starts = 0
    while world.watcher().slots[1].state is not SlotState.FATAL:
        starts += 1
        child = world.child()
        world.runs(child)
        world.says(child, READY="1")
        world.dies(child, code=1)
        world.pass_time(2.0)
        assert starts < 10
    assert starts == 3


def test_a_death_long_after_ready_is_replaced_at_once() -> None:
    world = _started(max_retry=1)
    for _ in range(5):
        world.runs(world.child())
        world.says(world.child(), READY="1")
        world.pass_time(1.5)
        world.dies(world.child(), code=1)
        assert world.watcher().slots[1].state is SlotState.FILLED


def test_kills_from_outside_right_after_ready_are_no_failures() -> None:
    world = _started(max_retry=1)
    for _ in range(20):
        world.runs(world.child())
        world.says(world.child(), READY="1")
        world.dies(world.child(), signum=signal.SIGKILL)
        assert world.watcher().slots[1].state is SlotState.FILLED


def test_a_process_that_does_not_stop_is_killed_in_time_and_again() -> None:
    world = _started(graceful_timeout=10.0)
    world.all_ready()
    child = world.child()
    child.obeys = False
    stopped = world.submit(Stop())
    world.pass_time(9.9)
    assert child.ended is None
    world.pass_time(0.2)

    assert child.ended is not None
    assert stopped.result == "web: stopped"


def test_what_a_leader_leaves_is_stopped_then_killed_then_given_up() -> None:
    world = _started(graceful_timeout=10.0)
    world.all_ready()
    child = world.child()
    child.others = 2
    stopped = world.submit(Stop())
    world.reap()
    assert not stopped.done
    world.pass_time(10.1)

    assert child.others == 0
    world.pass_time(5.1)
    assert stopped.done


def test_one_timer_serves_a_watcher() -> None:
    world = _started(numprocesses=20)
    world.pass_time(0.1)

    assert len(world.processes()) == 20
    assert len(world.loop.appointments) == 1


def test_a_flood_of_messages_pauses_the_listening_and_nothing_else() -> None:
    world = _started()
    world.all_ready()
    (process,) = world.processes()
    world.notifies[process.notify].messages = [{"STATUS": str(n)} for n in range(100)]
    world.loop.ready(process.notify)
    world.settle()

    assert process.notify not in world.loop.watched
    world.pass_time(0.1)
    assert process.notify in world.loop.watched


def test_a_process_fills_neither_the_log_nor_the_status_by_its_messages() -> None:
    world = _started(fdstore_max=1)
    world.all_ready()
    (process,) = world.processes()
    world.says(world.child(), STATUS="x" * 60_000)
    assert len(process.status) == LONGEST_STATUS
    for _ in range(40):
        world.says(world.child(), ERRNO="2")
        world.says(world.child(), FDSTORE="1", FDNAME="a:b")
        world.pass_time(0.2)
    for number in range(40):
        world.says(world.child(), FDSTORE="1", FDNAME=f"{number}:" + "y" * 1000)
        world.pass_time(0.2)

    assert len(process.status) == LONGEST_STATUS
    refused = [each.reason for each in world.events if isinstance(each, NotifyRefused)]
    assert refused[0] == "FDNAME='a:b' is no name of a descriptor"
    assert 1 < len(refused) < 10 and len(set(refused)) == len(refused)
    assert max(map(len, refused)) < 100


def _fault(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every end of a process of one watcher meet a bug; no input leads to one that is known."""
    population = world.watcher(name).population

    def exited(process: Process) -> None:
        raise RuntimeError(f"a bug with {process}")

    monkeypatch.setattr(population, "exited", exited)


def test_a_bug_in_one_watcher_costs_no_other_of_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _started(options("bad"), options("good"))
    world.all_ready()
    _fault(world, "bad", monkeypatch)
    for name in ("bad", "good"):
        world.kernel.end(world.child(name=name), signum=11)
    world.reap()

    assert "a bug with bad[1]" in world.bugs()[0]
    assert len(world.pids("good")) == 1
    assert world.child(name="good").ended is None
    monkeypatch.undo()
    world.all_ready()
    assert world.child(name="bad").runs  # it is tried again
    assert not world.kernel.faults


def test_a_pid_that_was_reaped_gets_no_signal_although_its_end_met_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _started(options("bad", graceful_timeout=1.0))
    world.all_ready()
    _fault(world, "bad", monkeypatch)
    world.child(name="bad").obeys = False
    stopped = world.submit(Stop(), "bad")
    world.pass_time(60.0)

    assert stopped.done
    assert not world.kernel.faults
    assert not world.loop.appointments


def test_a_bug_in_a_deadline_does_not_come_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _started()
    calls = []

    def miss(*_arguments: object) -> None:
        calls.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.watcher().processes, "miss", miss)
    world.pass_time(30.0)

    assert 1 < len(calls) < 8, "it is tried again, each time later"


def test_a_job_that_meets_a_bug_fails_and_its_queue_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World((options(),))

    def start() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.watcher(), "start", start)
    failed = world.submit(Start())
    assert failed.error is not None
    monkeypatch.undo()
    again = world.submit(Start())
    world.all_ready()
    assert again.result == "web: 1 process running"


def test_many_processes_are_told_to_stop_in_portions_and_all_of_them() -> None:
    world = _started(numprocesses=60)
    world.all_ready()
    for child in world.kernel.living:
        child.obeys = False
    world.queue().submit(Stop())

    assert sum(each.state is ProcessState.DRAINING for each in world.processes()) == AT_A_TIME
    assert all(each.is_asked_to_end for each in world.processes())
    world.settle()
    assert all(each.state is ProcessState.DRAINING for each in world.processes())


def test_a_process_that_is_not_ready_yet_is_not_too_old() -> None:
    world = _started(max_age=5.0, ready_after=8.0, backoff_max=2.0)
    first = world.child()
    world.runs(first)
    world.pass_time(7.9)
    assert first.ended is None
    world.pass_time(0.2)
    assert world.watcher().is_settled
    world.pass_time(2.0)
    assert first.ended is not None


def test_a_short_max_age_is_kept_although_readiness_takes_as_long() -> None:
    world = _started(numprocesses=2, max_age=1.0, ready_after=1.0)
    for wid in (1, 2):
        world.runs(world.child(wid))
    first = set(world.pids())

    world.pass_time(1.0)
    for wid in (1, 2):
        world.runs(world.child(wid))
    world.pass_time(0.6)
    world.reap()

    assert len(world.pids()) == 2
    assert not first & set(world.pids())
