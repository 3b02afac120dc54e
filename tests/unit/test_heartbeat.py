"""When a worker is stuck, and when it is not: the judgement of its heartbeat, on a clock of the test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forkserve.supervision.events import ProcessReady
from forkserve.supervision.jobs.advance import Start
from forkserve.supervision.liveness.heartbeat import (
    EXCUSED,
    LONGEST,
    SHORTEST,
    BeatVerdict,
    Heart,
    Sight,
    interval_of,
    judge,
)
from forkserve.supervision.liveness.heartbeats import Heartbeats
from forkserve.supervision.os.condition import ProcessCondition
from tests.support.supervision import World, options

PATIENCE = 34.0
FINE, RING, STARVED, STUCK = BeatVerdict
Life = Callable[[float], tuple[float, ProcessCondition]]


def watched(life: Life, seconds: float, *, every: float | None = None) -> list[tuple[float, BeatVerdict]]:
    """Look at a worker for so long, and return all verdicts but FINE, with their instants."""
    heart, now, told = Heart(), 1000.0, []
    while now < 1000.0 + seconds:
        beat, condition = life(now - 1000.0)
        verdict = judge(heart, Sight(beat, PATIENCE, condition), now)
        if verdict is not FINE:
            told.append((now - 1000.0, verdict))
        now += every or interval_of(PATIENCE)
    return told


def sleeping(_now: float) -> tuple[float, ProcessCondition]:
    return 7.0, ProcessCondition()


def test_one_that_does_not_come_back_is_rung_and_then_stuck_once() -> None:
    told = watched(sleeping, 10 * PATIENCE)

    assert [verdict for _, verdict in told] == [RING, STUCK]
    assert PATIENCE / 2 <= told[0][0] <= PATIENCE / 2 + 2 * LONGEST
    assert PATIENCE <= told[1][0] <= PATIENCE + 2 * LONGEST


def test_one_that_answers_the_bell_is_never_stuck() -> None:
    rung = 0
    heart = Heart()
    for look in range(1000):
        verdict = judge(heart, Sight(float(rung), PATIENCE, ProcessCondition()), look * LONGEST)
        assert verdict in (FINE, RING)
        rung += verdict is RING

    assert rung > 100


def test_one_that_loops_without_end_is_stuck() -> None:
    told = watched(lambda now: (7.0, ProcessCondition(ran=now)), 3 * PATIENCE)

    assert [verdict for _, verdict in told] == [RING, STUCK]


def test_one_that_gets_no_processor_is_excused_for_a_while() -> None:
    told = watched(lambda now: (7.0, ProcessCondition(ran=now / 100, waited=now * 0.99)), 10 * PATIENCE)

    verdicts = [verdict for _, verdict in told]
    assert verdicts[0] is RING
    assert verdicts[-1] is STUCK
    assert set(verdicts[1:-1]) == {STARVED}
    assert told[-1][0] >= EXCUSED * PATIENCE / 2


@pytest.mark.parametrize("stopped", [(5.0, 200.0), (20.0, 400.0), (30.0, 40.0)])
def test_time_in_which_it_is_stopped_or_traced_does_not_count(stopped: tuple[float, float]) -> None:
    """It was busy for as long as it may be, but for the time for which a debugger held it."""

    def life(now: float) -> tuple[float, ProcessCondition]:
        held = stopped[0] <= now < stopped[1]
        return (1.0 if now > stopped[1] + PATIENCE - 2 * LONGEST else 0.0), ProcessCondition(is_held=held)

    assert STUCK not in [verdict for _, verdict in watched(life, stopped[1] + PATIENCE)]


def test_time_in_which_the_master_did_not_look_does_not_count() -> None:
    """A machine that was suspended, or a master that was stopped: every worker seems silent then."""
    heart = Heart()
    judge(heart, Sight(1.0, PATIENCE, ProcessCondition()), 0.0)
    judge(heart, Sight(1.0, PATIENCE, ProcessCondition()), 4.0)

    assert judge(heart, Sight(1.0, PATIENCE, ProcessCondition()), 10_000.0) is FINE


def test_a_patience_of_nearly_nothing_costs_no_worker_that_goes_on_and_no_more_looks() -> None:
    """Another process of its user can write it: the worker is excused by each beat, as with any other."""
    heart = Heart()
    assert {judge(heart, Sight(float(now), 1e-4, ProcessCondition()), now * 0.05) for now in range(50)} == {FINE}
    assert interval_of(1e-4) == SHORTEST


def test_one_without_patience_is_let_alone() -> None:
    heart = Heart()
    assert {judge(heart, Sight(1.0, 0.0, ProcessCondition()), now * 100.0) for now in range(50)} == {FINE}


def test_no_look_is_due_while_no_process_has_a_record() -> None:
    world = World((options(ready_after=0.1),))
    heartbeats = Heartbeats(world.supervisor, world.loop)
    heartbeats.begin()
    world.submit(Start())
    world.all_ready()
    for event in world.events:
        heartbeats.on_event(event)

    assert any(isinstance(event, ProcessReady) for event in world.events)
    assert world.loop.following(float("inf")) == float("inf")
