"""The observatory samples hundreds of watchers for a moment at a stretch: others have their turn in between."""

from __future__ import annotations

from collections.abc import Iterator

from forkserve.supervision.metrics.observatory import AT_A_TIME, INTERVAL, Observatory
from tests.support.supervision import World


def test_a_round_that_takes_long_is_taken_in_turns_and_the_next_one_waits_for_it() -> None:
    world = World()
    observatory = Observatory(world.supervisor, world.loop)
    steps: list[float] = []

    def act(now: float) -> Iterator[None]:
        for _ in range(4):
            steps.append(now)
            world.loop.clock += AT_A_TIME
            yield
        raise RuntimeError("a bug of this round")

    observatory.on_sampled.append(act)
    observatory.begin()
    seen: list[int] = []
    world.loop.call_later(INTERVAL, lambda: seen.append(len(steps)))
    world.pass_time(INTERVAL)
    assert seen == [1], "the rest has its turn later"
    assert len(steps) == 4
    assert len(world.bugs()) == 1
    world.pass_time(INTERVAL)
    assert len(steps) == 8, "a bug ends its round only"
    observatory.close()
    world.pass_time(INTERVAL)
    assert len(steps) == 8
