"""Zygotes that are kept for a rollback: of the last good generation, while enough memory is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.config.cgroups import spare_memory
from forkserve.supervision.events import ZygoteNotKept
from forkserve.supervision.generations.templates import Templates
from forkserve.supervision.jobs.advance import Start
from forkserve.supervision.zygotes.standby import LEAST_SPARE, LOOKED_EVERY, Standby
from forkserve.supervision.zygotes.state import ZygoteState
from tests.support.supervision import World, options

MACHINE = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  {} kB\n"


@pytest.fixture
def world() -> World:
    """One process that is ready, and counts as a zygote here."""
    world = World((options(),))
    world.submit(Start())
    world.runs(world.child())
    world.pass_time(1.0)
    return world


def standby_of(world: World) -> tuple[Standby, ZygoteState]:
    watcher = world.watcher()
    (process,) = watcher.processes
    kept = Standby(world.services(), watcher.processes)
    return kept, ZygoteState(generation=1, process=process.number)


def test_one_that_is_kept_can_be_gone_back_to_once(world: World) -> None:
    kept, state = standby_of(world)
    assert kept.youngest([state]) == 0
    assert kept.allows(state)
    assert kept.youngest([state]) == 1
    assert state.standby is not None
    assert state.standby.instant == world.loop.now() + LOOKED_EVERY
    kept.recall([state], 1, 3)
    assert (state.generation, state.standby, kept.youngest([state])) == (3, None, 0)
    assert [each.generation for each in world.processes()] == [3]


def test_one_that_is_not_on_standby_is_not_recalled(world: World) -> None:
    kept, state = standby_of(world)
    kept.recall([state], 1, 3)
    assert state.generation == 1


def test_it_is_told_when_memory_is_short(world: World) -> None:
    kept, state = standby_of(world)
    world.kernel.spare = LEAST_SPARE - 0.01
    assert not kept.allows(state)
    assert world.events[-1] == ZygoteNotKept(watcher="web", generation=1, spare=world.kernel.spare)
    assert "web keeps no zygote of generation 1 for a rollback: 9% of the memory is free" in world.texts()


def test_one_that_is_asked_to_end_cannot_be_gone_back_to(world: World) -> None:
    kept, state = standby_of(world)
    assert kept.allows(state)
    world.watcher().population.stop(world.processes()[0])
    assert kept.youngest([state]) == 0


def test_the_last_two_generations_have_served_and_a_condemned_one_has_not(world: World) -> None:
    templates = Templates(by_generation=dict(world.watcher().templates.by_generation))
    templates.approve(1)
    for generation in (2, 3):
        templates.open(0, ())
        templates.approve(generation)
    assert templates.served == [2, 3]
    templates.open(0, ())
    templates.approve(4, instead_of=(2, 3))  # a rollback to 2
    assert templates.served == [4]


@pytest.mark.parametrize(
    ("available", "files", "expected"),
    [
        pytest.param(250, {}, 0.25, id="machine"),
        pytest.param(900, {"memory.max": "max", "memory.current": "5"}, 0.9, id="v2-max"),
        pytest.param(900, {"a/b/memory.max": "1000", "a/b/memory.current": "800"}, 0.2, id="v2"),
        pytest.param(
            900,
            {"a/memory.max": "1000", "a/memory.current": "800", "a/memory.stat": "anon 1\ninactive_file 300"},
            0.5,
            id="v2-what-the-kernel-takes-back",
        ),
        pytest.param(
            100, {"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "500"}, 0.1, id="v1"
        ),
        pytest.param(900, {"a/b/memory.max": "100", "a/b/memory.current": "130"}, 0.0, id="over-its-limit"),
        pytest.param(900, {"a/b/memory.max": "nonsense", "a/b/memory.current": "1"}, 0.9, id="nonsense"),
    ],
)
def test_spare_memory_is_that_of_the_tightest(
    available: int, files: dict[str, str], expected: float, tmp_path: Path
) -> None:
    membership, machine = tmp_path / "membership", tmp_path / "meminfo"
    membership.write_text("12:memory:/a/b\n0::/a/b\n")
    machine.write_text(MACHINE.format(available))
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert spare_memory(membership, tmp_path / "cgroup", machine) == pytest.approx(expected)


def test_a_machine_that_tells_nothing_has_room(tmp_path: Path) -> None:
    assert spare_memory(tmp_path / "none", tmp_path, tmp_path / "none") == 1.0
