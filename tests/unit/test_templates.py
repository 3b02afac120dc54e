"""Which commands of former generations a watcher keeps, and which of them its next process is made of."""

from __future__ import annotations

from forkserve.supervision.generations.templates import Templates
from tests.support.supervision import World, options


def _templates(world: World, count: int, in_use: frozenset[int]) -> Templates:
    """Return what is kept after so many generations more, each with a command that is named after its number."""
    templates = Templates({1: world.command(options(cmd="first"))})
    for number in range(2, 2 + count):
        offer = templates.offer(world.command(options(cmd=f"number {number}")))
        templates.open(offer, in_use)
    return templates


def test_generations_in_use_and_the_one_before_are_kept_and_no_others() -> None:
    templates = _templates(World((options(),)), 4, frozenset({1, 3}))
    assert sorted(templates.by_generation) == [1, 3, 4, 5]
    assert templates.by_generation[1].options.cmd == "first"
    assert templates.in_force.options.cmd == "number 5"


def test_nothing_is_kept_for_long_that_nobody_uses() -> None:
    templates = _templates(World((options(),)), 9, frozenset())
    assert sorted(templates.by_generation) == [9, 10]
    assert not templates.offers


def test_a_reload_keeps_the_command_of_a_process_that_still_stops() -> None:
    world = World((options(numprocesses=2),))
    watcher = world.watcher()
    watcher.start()
    world.all_ready()
    stubborn = world.child(1)
    stubborn.obeys = False
    for number in range(3):
        watcher.open_generation(watcher.offer(world.command(options(numprocesses=2, cmd=f"next {number}"))))
        for wid in (1, 2):
            watcher.filler.replace(watcher.slots[wid])
        world.all_ready()
    assert stubborn.pid in world.pids()
    assert 1 in watcher.templates.by_generation
    assert 2 not in watcher.templates.by_generation

    world.dies(stubborn, code=0)
    watcher.open_generation(0)
    assert 1 not in watcher.templates.by_generation


def test_the_commands_of_deaf_processes_go_with_them() -> None:
    world = World((options(graceful_timeout=50.0),))
    watcher = world.watcher()
    watcher.start()
    world.all_ready()
    for _ in range(4):
        world.child().obeys = False
        watcher.open_generation(0)
        watcher.filler.replace(watcher.slots[1])
        world.runs(world.child())
        world.pass_time(1.0)
    assert watcher.templates.by_generation.keys() == {1, 2, 3, 4, 5}

    world.pass_time(50.0)
    assert len(world.kernel.living) == 1
    assert watcher.templates.by_generation.keys() == {4, 5}


def test_slots_outside_of_a_canary_are_filled_by_the_generation_before() -> None:
    templates = _templates(World((options(),)), 1, frozenset({1}))
    templates.confine((2,), before=1)
    assert [templates.generation_of(wid) for wid in (1, 2, 3)] == [1, 2, 1]
    templates.confine((), before=0)
    assert {templates.generation_of(wid) for wid in (1, 2, 3)} == {2}
    templates.confine((2,), before=1)
    templates.put_back(1)
    assert {templates.generation_of(wid) for wid in (1, 2, 3)} == {1}
