"""When a process over its memory limit is replaced, on a manual loop and a kernel of numbers."""

from __future__ import annotations

import pytest

from forkserve.supervision.events import ProcessGrown
from forkserve.supervision.jobs.advance import Reload, Start
from forkserve.supervision.metrics.limits import LimitsKeeper
from forkserve.supervision.metrics.observatory import Observatory
from tests.support.supervision import World, options

LIMIT = 100 * 2**20


def _world(**more: object) -> tuple[World, LimitsKeeper, Observatory]:
    world = World((options(numprocesses=2, max_pss=LIMIT, **more),))
    observatory = Observatory(world.supervisor, world.loop)
    world.submit(Start())
    return world, LimitsKeeper(world.supervisor, observatory), observatory


def _grows(world: World, observatory: Observatory, wid: int) -> None:
    sizes = {str(world.child(wid).pid): 2 * LIMIT}
    observatory.restore({"refused_configs": 0, "told": [], "pss": sizes})


def _replaced(world: World) -> list[int]:
    return [each.wid for each in world.events if isinstance(each, ProcessGrown)]


def test_a_process_over_its_limit_is_replaced_although_another_slot_fails_again_and_again() -> None:
    world, keeper, observatory = _world(max_retry=-1)
    for wid in (1, 2):
        world.runs(world.child(wid))
    world.dies(world.child(2), code=1)
    world.pass_time(0.4)
    world.runs(world.child(1))
    world.pass_time(0.7)
    _grows(world, observatory, 1)
    list(keeper.enforce(world.loop.clock))
    assert _replaced(world) == [1]
    list(keeper.enforce(world.loop.clock + 60.0))
    assert _replaced(world) == [1], "its successor is on its way"


def test_a_reload_replaces_it_anyway() -> None:
    world, keeper, observatory = _world()
    world.all_ready()
    _grows(world, observatory, 2)
    world.submit(Reload())
    list(keeper.enforce(world.loop.clock))
    assert _replaced(world) == []


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_start_that_waits_for_warmup_delay_comes_first(seconds: float) -> None:
    world, keeper, observatory = _world(warmup_delay=seconds)
    world.runs(world.child(1))
    world.pass_time(1.1)
    assert len(world.pids()) == (1 if seconds else 2)
    _grows(world, observatory, 1)
    list(keeper.enforce(world.loop.clock))
    assert _replaced(world) == ([] if seconds else [1])
