"""The number of processes under simulated load: it follows within bounded time, and does not flap."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from forkserve.supervision.metrics.scaling import DOWN_WINDOW, GOAL, HIGH, LOW, LoadSample, Scaler

EVERY = 0.25
STARTS = 2.0
"""Seconds that a new worker takes to be ready."""


def simulated(
    load: Callable[[float], float], seconds: float, *, lowest: int = 1, highest: int = 32, first: int = 1, seed: int = 0
) -> list[tuple[float, int]]:
    """Run so many seconds of a load, in workers kept busy, and return the changes: instants and new numbers."""
    chance, scaler = random.Random(seed), Scaler()
    target, changes = first, [(0.0, first)]
    ready, coming, queue = first, [], 0.0
    for step in range(int(seconds / EVERY)):
        now = step * EVERY
        ready += sum(at <= now for at in coming)
        coming = [at for at in coming if at > now]
        wanted = load(now)
        queue = min(max(queue + (wanted - ready) * EVERY * 10, 0.0), 500.0)
        # each worker is seen busy or not at one instant
        share = min(wanted / ready, 1.0)
        busy = 1.0 if queue else sum(chance.random() < share for _ in range(ready)) / ready
        after = scaler.decide(LoadSample(now, ready, busy, int(queue)), target, lowest=lowest, highest=highest)
        if after > target:
            coming += [now + STARTS] * (after - target)
        elif after < target:
            ready -= target - after
        if after != target:
            target = after
            changes.append((now, target))
    return changes


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9, 1.5, 3.0, 5.9, 6.1, 10.0, 15.5])
@pytest.mark.parametrize(
    ("first", "minutes"), [(1, 20), (8, 20), *(pytest.param(each, 60, marks=pytest.mark.slow) for each in (1, 8, 32))]
)
def test_a_steady_load_has_a_steady_number(load: float, first: int, minutes: int) -> None:
    changes = simulated(lambda _now: load, 60 * minutes, first=first)

    number = changes[-1][1]
    assert load / number <= HIGH + 0.05
    settled = [each for each in changes if each[0] > 60 * 0.75 * minutes]
    assert len(settled) <= 2, f"it flaps: {settled}"
    ways = [after > before for (_, before), (_, after) in pairwise(changes)]
    assert sum(a != b for a, b in pairwise(ways)) <= 3, f"it turns round too often: {changes}"


def test_a_step_up_is_followed_in_seconds() -> None:
    changes = simulated(lambda now: 1.0 if now < 120 else 12.0, 300, first=2)

    enough = next(at for at, number in changes if number >= 12 / HIGH)
    assert 120 <= enough <= 160


def test_waiting_connections_alone_bring_another_worker() -> None:
    scaler, target = Scaler(), 4
    for step in range(20):
        target = scaler.decide(LoadSample(step * EVERY, 4, 0.1, 3), 4, lowest=1, highest=32)
        if target != 4:
            break

    assert (target, step * EVERY <= 3.0) == (6, True)


def test_a_load_that_ends_is_followed_one_at_a_time() -> None:
    changes = simulated(lambda now: 10.0 if now < 120 else 0.1, 120 + 40 * DOWN_WINDOW, first=16)

    after = [number for at, number in changes if at > 120 + 1]
    assert after == sorted(after, reverse=True)
    assert after[-1] == 1
    assert all(before - now == 1 for before, now in pairwise(after))


def test_a_load_that_comes_and_goes_within_a_minute_is_held() -> None:
    changes = simulated(lambda now: 6.0 if now % 40 < 20 else 1.0, 60 * 30, first=10)

    late = [number for at, number in changes if at > 300]
    assert len(late) <= 6, f"it follows every wave: {changes}"
    assert min(late, default=8) >= 7


def test_the_bounds_hold() -> None:
    changes = simulated(lambda _now: 100.0, 600, lowest=2, highest=5, first=2)
    assert {number for _, number in changes} <= {2, 3, 4, 5}
    assert simulated(lambda _now: 0.0, 600, lowest=3, highest=5, first=4)[-1][1] == 3
    assert LOW < GOAL < HIGH


def test_nothing_is_decided_while_workers_start() -> None:
    scaler = Scaler()
    for step in range(1000):
        assert scaler.decide(LoadSample(step * EVERY, 3, 1.0, 9), 4, lowest=1, highest=9) == 4


def test_workers_that_end_and_come_back_one_after_the_other_are_counted() -> None:
    scaler, target = Scaler(), 8
    for step in range(60):
        sample = LoadSample(step * EVERY, 7, 1.0, 0, renewing=1)
        target = scaler.decide(sample, 8, lowest=1, highest=32)
        if target != 8:
            break
    assert target > 8


def test_what_is_mostly_down_decides_nothing() -> None:
    scaler = Scaler()
    for step in range(1000):
        sample = LoadSample(step * EVERY, 1, 1.0, 9, renewing=3)
        assert scaler.decide(sample, 4, lowest=1, highest=9) == 4
