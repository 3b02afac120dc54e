"""What supervisord has and Circus has not: exit codes that are expected, and groups by which verbs name watchers."""

from __future__ import annotations

import pytest

from forkserve.config.values import exit_codes
from forkserve.errors import ControlError, UnknownNameError
from forkserve.supervision.events import ProcessExited
from forkserve.supervision.jobqueue.addressing import meant
from forkserve.supervision.jobs.job import Start
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.snapshot import WatcherState
from forkserve.supervision.views import state_of
from tests.support.supervision import World, options

GROUPS = {"web_00": "web", "web_01": "Web", "db": "", "job": "shop"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("db", ("db",)),
        ("DB:*", ("db",)),
        ("db:db", ("db",)),
        ("web:*", ("web_00", "web_01")),
        ("web:", ("web_00", "web_01")),
        ("web:web_01", ("web_01",)),
        ("shop:JOB", ("job",)),
        ("web", ()),
        ("web:db", ()),
        ("db:db_00", ()),
        ("job:*", ()),
        ("", ()),
    ],
)
def test_a_name_means_a_watcher_a_member_or_a_group(name: str, found: tuple[str, ...]) -> None:
    assert meant(name, GROUPS) == found


def test_what_is_one_watcher_is_refused_for_several_and_a_wrong_name_says_what_to_type() -> None:
    world = World((options("a", group="g"), options("b", group="g"), options("c")))
    assert [each.watcher.name for each in world.supervisor.queues_named("g:*")] == ["a", "b"]
    assert world.supervisor.queue("g:b").watcher.name == "b"
    with pytest.raises(ControlError, match=r"'g:[*]' names 2 watchers"):
        world.supervisor.queue("g:*")
    with pytest.raises(UnknownNameError, match=r"g is a group: g:[*] names all of it"):
        world.supervisor.queue("g")
    with pytest.raises(UnknownNameError, match=r"c is one watcher: name it alone, or a process: c\[1\]"):
        world.supervisor.queue("c:c_00")


def _ended(world: World, code: int | None = None, signum: int | None = None) -> ProcessExited:
    child = world.child()
    world.runs(child)
    world.pass_time(2.0)
    world.dies(child, code=code, signum=signum)
    (found,) = [each for each in world.events if isinstance(each, ProcessExited)]
    return found


@pytest.mark.parametrize(
    ("code", "signum", "again"), [(0, None, False), (2, None, False), (1, None, True), (None, 9, True)]
)
def test_an_expected_exit_code_ends_a_process_and_any_other_end_has_it_replaced(
    code: int | None, signum: int | None, again: bool
) -> None:
    world = World((options(exitcodes=(0, 2)),))
    started = world.submit(Start())
    ended = _ended(world, code, signum)
    assert ended.text().endswith("restarting" if again else "; it is not to be restarted (exitcodes)")
    assert (len(world.pids()) == 1) is again
    assert started.done
    if not again:
        world.pass_time(100.0)
        assert (world.pids(), state_of(world.watcher())) == ([], WatcherState.STOPPED)
        world.submit(Start())
        assert len(world.pids()) == 1


def test_an_expected_exit_code_ends_a_process_that_has_just_begun_as_well() -> None:
    world = World((options(exitcodes=(0,)),))
    started = world.submit(Start())
    world.dies(world.child(), code=0)
    assert (world.pids(), world.watcher().slots[1].state, started.error) == ([], SlotState.VACANT, None)


def test_a_process_that_we_have_stopped_is_replaced_whatever_its_exit_code() -> None:
    world = World((options(exitcodes=(0,), max_age=5.0),))
    world.submit(Start())
    child = world.child()
    child.obeys = False
    world.runs(child)
    world.pass_time(6.0)
    world.dies(child, code=0)
    assert len(world.pids()) == 1


def test_exit_codes_are_numbers_of_a_byte() -> None:
    assert (exit_codes("0,2"), exit_codes("2 0 2"), exit_codes("")) == ((0, 2), (2, 0), ())
    for wrong in ("256", "-1", "x"):
        with pytest.raises(ValueError, match="expected"):
            exit_codes(wrong)
