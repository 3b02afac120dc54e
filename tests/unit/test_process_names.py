"""Names of processes by `process_name`, and the verbs that address one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.config.capture import captured_streams
from forkserve.config.load import load
from forkserve.config.model import StreamOptions, WatcherOptions
from forkserve.config.naming import identity_of, own_name
from forkserve.config.placeholders import expand, names_in
from forkserve.errors import ConfigError, ControlError
from forkserve.supervision.jobs.job import Reload, Resize, SlotJob, Start
from forkserve.supervision.spawning.handover import Handover, Outputs
from tests.support.supervision import World, options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("w$(circus.wid)", "w7"),
        ("w$(circus.wid:02)", "w07"),
        ("w((CIRCUS.WID:03d))", "w007"),
        ("$(circus.name:02)", "$(circus.name:02)"),
        ("$(circus.wid:)", "$(circus.wid:)"),
        ("$(circus.other:02)", "$(circus.other:02)"),
    ],
)
def test_a_number_may_be_padded(text: str, value: str) -> None:
    assert expand(text, {"wid": "7", "name": "web"}) == value


def test_the_width_is_no_part_of_the_name() -> None:
    assert names_in("$(circus.wid:02) $(circus.WID)") == ("wid",)


@pytest.mark.parametrize(
    ("pattern", "first", "names"),
    [
        (None, 1, ["", "", ""]),
        ("w_$(circus.wid:02)", 0, ["w_00", "w_01", "w_02"]),
        ("$(circus.name)-$(circus.wid)", 5, ["web-5", "web-6", "web-7"]),
        ("main", 1, ["main", "", ""]),
    ],
)
def test_names_of_the_first_slots(pattern: str | None, first: int, names: list[str]) -> None:
    watcher = options(process_name=pattern, first_wid=first)
    assert [own_name(watcher, wid) for wid in (1, 2, 3)] == names
    assert [str(identity_of(watcher, 2)), str(identity_of(watcher, 0))] == [
        f"web:{names[1]}" if names[1] else "web[2]", "web zygote",
    ]  # fmt: skip


def _read(tmp_path: Path, text: str) -> WatcherOptions:
    path = tmp_path / "a.ini"
    path.write_text(f"[watcher:web]\ncmd = prog\n{text}")
    return load(str(path), environ={}, shown="a.ini").watchers[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("numprocesses = 2\nprocess_name = a\n", "4 [watcher:web] process_name: several processes would have one name"),
        ("process_name = a b\n", "3 [watcher:web] process_name: a name cannot contain ' '"),
        ("process_name = a:b\n", "3 [watcher:web] process_name: a name cannot contain ':'"),
        ("process_name = a_$(circus.pid)\n", "3 [watcher:web] process_name: circus.pid is not known here"),
        ("process_name = a_%(process_num)02d\n", "supervisord's: write $(circus.wid:02)"),
        ("process_name = %(program_name)s\n", "supervisord's: write $(circus.name)"),
        ("process_name = other\n[watcher:Other]\ncmd = prog\n", "[Other] is another watcher"),
        ("numprocs_start = -1\n", "3 [watcher:web] numprocs_start: must be at least 0"),
    ],
)
def test_a_name_that_cannot_be_is_an_error_with_its_place(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    assert fault in str(caught.value)


def test_supervisords_name_of_the_first_number_is_known(tmp_path: Path) -> None:
    assert _read(tmp_path, "numprocs_start = 0\nprocess_name = w$(circus.wid)\n").first_wid == 0


def test_a_process_knows_its_name_and_its_number() -> None:
    world = World()
    wanted = options(
        cmd="prog $(circus.process_name) $(circus.wid:03)",
        process_name="w_$(circus.wid)",
        first_wid=0,
        env={"PLACE": "$(circus.process_name)", "OTHER": "$(circus.pid)"},
    )
    spec = world.command(wanted).spec(2, lambda _queue, _wid: 0, Outputs())
    assert spec.argv == ("prog", "w_1", "001")
    assert (spec.env["PLACE"], spec.env["OTHER"]) == ("w_1", "$(circus.pid)")
    assert (spec.env["FORKSERVE_WID"], spec.env["FORKSERVE_PROCESS_NAME"]) == ("2", "w_1")
    beside = world.command(wanted).spec(2, lambda _queue, _wid: 0, Outputs(), Handover(circus_wid=5))
    assert beside.argv == ("prog", "w_1", "004")


def test_each_process_has_a_file_by_its_name() -> None:
    stream = StreamOptions(filename="/tmp/$(circus.process_name).log")
    found = captured_streams(options(process_name="w_$(circus.wid)", stdout_stream=stream), 3)[0]
    assert found is not None
    assert found.filename == "/tmp/w_3.log"


def _world() -> World:
    world = World((options(process_name="w_$(circus.wid)", first_wid=0, numprocesses=3, group="g"), options("job")))
    world.submit(Start())
    for wid in (1, 2, 3):
        world.runs(world.child(wid))
    world.pass_time(2.0)
    return world


@pytest.mark.parametrize("name", ["web[2]", "WEB[2]", "web:w_1", "w_1", "W_1", "g:w_1", "g:web[2]"])
def test_a_process_is_found_by_any_of_its_names(name: str) -> None:
    queue, wid = _world().supervisor.place(name)
    assert (queue.watcher.name, wid) == ("web", 2)


def test_what_names_no_process_is_no_process() -> None:
    supervisor = _world().supervisor
    assert [supervisor.slot_named(each) for each in ("web", "g:web", "g:*", "web:*", "w_9", "job:w_1")] == [None] * 6
    with pytest.raises(ControlError, match="no watcher 'w_9'"):
        supervisor.place("w_9")


def test_a_name_of_two_processes_is_refused_with_both() -> None:
    world = World((options("a", process_name="w"), options("b", process_name="w")))
    with pytest.raises(ControlError, match="'w' names 2 processes: a:w, b:w"):
        world.supervisor.place("w")
    assert world.supervisor.place("b:w")[0].watcher.name == "b"


def _slot(world: World, wid: int, **more: bool) -> SlotJob:
    return SlotJob(wid, f"web[{wid}]", (world.child(wid).pid,), **more)


def test_one_process_is_stopped_alone_and_stays_so_until_it_is_started() -> None:
    world = _world()
    done = world.submit(_slot(world, 2, stops=True))
    assert not done.done
    world.reap()
    assert done.result == "web[2]: stopped"
    assert sorted(each.wid for each in world.processes()) == [1, 3]
    world.pass_time(60.0)
    world.read(world.written())
    world.pass_time(60.0)
    assert sorted(each.wid for each in world.processes()) == [1, 3]
    view = world.watcher().slots[2]
    assert (view.stopped, world.watcher().is_settled) == (True, True)

    started = world.submit(SlotJob(2, "web[2]", starts=True))
    world.settle()
    world.runs(world.child(2))
    world.pass_time(2.0)
    assert started.result == "web[2]: started"
    assert not world.bugs()


def test_a_reload_leaves_a_stopped_process_alone_and_a_start_of_all_starts_it() -> None:
    world = _world()
    world.submit(_slot(world, 2, stops=True))
    world.reap()
    reload = world.submit(Reload())
    for _ in range(8):
        for child in world.kernel.living:
            if child.outcome is False:
                world.runs(child)
        world.pass_time(2.0)
    assert reload.done
    assert sorted(each.wid for each in world.processes()) == [1, 3]
    world.submit(Start())
    world.pass_time(1.0)
    assert sorted(each.wid for each in world.processes()) == [1, 2, 3]


def test_a_restart_of_one_process_leaves_the_others() -> None:
    world = _world()
    before = {each.wid: each.pid for each in world.processes()}
    done = world.submit(_slot(world, 1, stops=True, starts=True))
    world.reap()
    world.pass_time(0.1)
    world.runs(world.child(1))
    world.pass_time(2.0)
    after = {each.wid: each.pid for each in world.processes()}
    assert done.result == "web[1]: restarted"
    assert [wid for wid in after if after[wid] != before[wid]] == [1]


def test_a_start_of_one_process_of_what_is_stopped_or_taken_away_is_refused() -> None:
    world = World((options(numprocesses=2),))
    assert world.submit(SlotJob(1, "web[1]", starts=True)).error is not None
    world.submit(Start())
    world.runs(world.child(1)), world.runs(world.child(2))
    world.pass_time(2.0)
    world.submit(_slot(world, 2, stops=True))
    world.reap()
    world.submit(Resize(1))
    world.submit(Resize(2))
    world.pass_time(1.0)
    assert sorted(each.wid for each in world.processes()) == [1, 2], "a slot that comes anew runs"


@pytest.mark.parametrize("begun", [True, False])
def test_a_restart_of_one_process_ends_when_a_reload_gives_its_watcher_a_schedule(begun: bool) -> None:
    world = World((options(numprocesses=2),))
    world.submit(Start())
    world.runs(world.child(1)), world.runs(world.child(2))
    world.pass_time(2.0)
    restart = world.submit(_slot(world, 2, stops=True, starts=True))
    if begun:
        world.reap()
    offer = world.watcher().offer(world.command(options(numprocesses=2, cmd="other", schedule="* * * * *")))
    reload = world.submit(Reload(offer=offer))
    for _ in range(8):
        for child in world.kernel.living:
            world.runs(child)
        world.reap()
        world.pass_time(2.0)
    assert reload.done and restart.done
    assert restart.error is not None, restart.result
    assert not world.bugs()
