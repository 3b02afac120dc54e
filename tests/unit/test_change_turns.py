"""A change for many watchers, and whatever follows from it, takes the loop for a moment at a time."""

from __future__ import annotations

import functools

import pytest

from forkserve.config.model import Config, WatcherOptions
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobqueue.queue import Underway
from forkserve.supervision.jobs.advance import Reload, Resize, Start
from forkserve.supervision.os.spawn import Spawned, SpawnSpec
from forkserve.supervision.reload.reloader import ChangePhase
from tests.support.supervision import FakeKernel, World, options

MANY = 40
FORK = 0.004
"""Seconds that a fork takes here, by the clock of the loop."""
STRETCH = 0.02
"""Seconds for which one callback may hold the loop: 0.01, and what was begun by then."""


class SlowKernel(FakeKernel):
    """A kernel whose forks take time; `clock` is the loop's."""

    world: World

    def fork(self, spec: SpawnSpec, *, rehearse: bool = False) -> Spawned:
        self.world.loop.clock += FORK
        return super().fork(spec, rehearse=rehearse)


def _names(count: int = MANY) -> list[str]:
    return [f"w{number}" for number in range(count)]


def _watchers(**more: object) -> tuple[WatcherOptions, ...]:
    return tuple(options(name, **more) for name in _names())


@pytest.fixture
def world() -> World:
    """Return a world of MANY watchers that run, on a kernel whose forks take time."""
    kernel = SlowKernel()
    made = World(_watchers(), kernel=kernel)
    kernel.world = made
    for name in _names():
        made.queue(name).submit(Start())
    made.all_ready()
    return made


def _held(world: World, action: functools.partial[object]) -> float:
    """Return for how long one call holds the loop."""
    before = world.loop.clock
    action()
    return world.loop.clock - before


def _ask(world: World) -> Completion:
    return world.reloader.request()


def test_a_hangup_begins_to_replace_hundreds_of_watchers_a_few_at_a_time(world: World) -> None:
    asked = _ask(world)
    prepared = Config(watchers=_watchers())
    assert _held(world, functools.partial(_take, world, prepared)) < STRETCH
    assert world.reloader.phase is ChangePhase.APPLYING
    world.all_ready()
    world.pass_time(5.0)
    assert asked.done and asked.error is None
    assert {world.watcher(name).generation for name in _names()} == {2}
    assert not world.bugs()


def test_settling_many_changed_watchers_is_done_in_portions(world: World) -> None:
    for name in _names():
        queue = world.queue(name)
        queue.beside.append(Underway(Resize(3), Completion()))
        world.supervisor.changed(queue.watcher)
    assert _held(world, functools.partial(world.supervisor.settle)) < STRETCH
    world.all_ready()
    assert {len(world.pids(name)) for name in _names()} == {3}


def test_a_change_that_is_taken_back_leaves_alone_those_whose_turn_had_not_come(world: World) -> None:
    before = {name: world.pids(name) for name in _names()}
    asked = _ask(world)
    _take(world, Config(watchers=_watchers(cmd="missing")))
    first = [child for child in world.kernel.living if child.outcome is False]
    assert 0 < len(first) < MANY
    for child in first:
        world.refuses(child)
    world.settle()
    world.pass_time(5.0)
    assert asked.error is not None
    assert len([name for name in _names() if world.pids(name) != before[name]]) <= len(first)
    assert len([child for child in world.kernel.children.values() if child.rehearse]) < MANY
    assert not world.bugs()


def test_state_written_while_watchers_wait_for_their_turn_lacks_none_of_them(world: World) -> None:
    _ask(world)
    _take(world, Config(watchers=_watchers()))
    world.reloader.turns.take_all()
    text = world.written()
    world.read(text)
    assert world.written() == text
    world.settle()
    world.all_ready()
    world.pass_time(5.0)
    assert {world.watcher(name).generation for name in _names()} == {2}
    assert world.reloader.phase is ChangePhase.IDLE


def test_a_change_whose_plan_has_taken_long_begins_nothing_in_the_same_callback(world: World) -> None:
    _ask(world)
    forked = len(world.kernel.children)
    world.loop.since = world.loop.now() - STRETCH
    _take(world, Config(watchers=_watchers()))
    assert world.reloader.phase is ChangePhase.APPLYING
    assert len(world.kernel.children) == forked
    world.loop.since = None
    world.settle()
    world.all_ready()
    world.pass_time(5.0)
    assert {world.watcher(name).generation for name in _names()} == {2}


def test_while_all_rehearse_an_end_concerns_only_the_watcher_whose_it_is(world: World) -> None:
    for name in _names():
        world.queue(name).submit(Reload())
    world.settle()
    tried = [child for child in world.kernel.children.values() if child.rehearse]
    assert len(tried) == MANY
    assert not [name for name in _names() if world.watcher(name).knows({1})]
    assert [name for name in _names() if world.watcher(name).knows({tried[3].pid})] == ["w3"]


def _take(world: World, config: Config) -> None:
    """Let the helper be through with the configuration, and nothing more."""
    serve, world.loop.serve = world.loop.serve, lambda: None  # type: ignore[method-assign]
    try:
        world.config_is_read(config)
    finally:
        world.loop.serve = serve  # type: ignore[method-assign]
