"""The loop over real descriptors and the real clock."""

from __future__ import annotations

import logging
import os
import select
import selectors
import time
from collections.abc import Callable

import pytest

from forkserve.supervision.os.loop import Loop


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_timers_fire_in_order_of_their_deadlines(loop: Loop) -> None:
    fired: list[str] = []
    loop.call_later(0.02, lambda: (fired.append("late"), loop.stop()))
    loop.call_later(0.01, lambda: fired.append("early"))
    loop.call_at(0.0, lambda: fired.append("past"))
    loop.run()
    loop.close()

    assert fired == ["past", "early", "late"]


def test_a_cancelled_timer_neither_fires_nor_wakes(loop: Loop) -> None:
    loop.call_later(0.0, lambda: pytest.fail("fired")).cancel()
    reading, writing = os.pipe()
    loop.watch(reading, selectors.EVENT_READ, lambda _events: loop.stop())
    loop.call_later(0.01, lambda: os.write(writing, b"x") and None)
    loop.run()
    loop.close()
    os.close(reading)
    os.close(writing)


def test_a_callback_may_unwatch_another_of_the_same_batch(loop: Loop) -> None:
    pipes = [os.pipe(), os.pipe()]
    called: list[int] = []

    def once(mine: int, others: int) -> None:
        called.append(mine)
        loop.unwatch(others)

    first, second = pipes[0][0], pipes[1][0]
    loop.watch(first, selectors.EVENT_READ, lambda _events: once(first, second))
    loop.watch(second, selectors.EVENT_READ, lambda _events: once(second, first))
    for _, writing in pipes:
        os.write(writing, b"x")
    loop.run_once()
    loop.unwatch(first)
    loop.unwatch(first)
    loop.close()
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)

    assert len(called) == 1


def test_a_bug_in_one_callback_is_logged_and_the_loop_lives_on(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def bug() -> None:
        raise ZeroDivisionError("a bug")

    loop.call_at(0.0, bug)
    loop.call_later(0.01, loop.stop)
    with caplog.at_level(logging.ERROR, "forkserve.loop"):
        loop.run()
    loop.close()

    assert "a bug" in caplog.text


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize(
    ("callback", "is_charged"),
    [
        pytest.param(lambda: busy(0.2), True, id="busy"),
        pytest.param(lambda: select.select([], [], [], 0.2), True, id="asleep"),
        pytest.param(lambda: None, False, id="nothing"),
    ],
)
def test_a_callback_that_holds_the_loop_is_told(
    callback: Callable[[], None], is_charged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Loop(limit=0.15)
    loop.call_at(0.0, callback)
    with caplog.at_level(logging.ERROR, "forkserve.loop"):
        loop.run_once()
    loop.close()

    assert ("held the loop" in caplog.text) == is_charged


def test_time_that_passes_while_the_clock_is_read_is_not_the_callback_s(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pread, readings = os.pread, 0

    def preempted(fd: int, size: int, offset: int) -> bytes:
        """Do as the kernel does when it takes the processor away for 0.3 s right after the second reading."""
        nonlocal readings
        readings += 1
        ran, waited, slices = pread(fd, size, offset).split()
        if readings == 2:
            select.select([], [], [], 0.3)
        elif readings > 2:
            waited = str(int(waited) + 300_000_000).encode()
        return b" ".join([ran, waited, slices])

    monkeypatch.setattr(os, "pread", preempted)
    loop = Loop(limit=0.15)
    loop.call_at(0.0, lambda: None)
    with caplog.at_level(logging.ERROR, "forkserve.loop"):
        loop.run_once()
    loop.close()

    assert readings > 2
    assert "held the loop" not in caplog.text


def test_a_number_that_was_closed_and_given_again_in_one_batch_calls_nobody_by_mistake(loop: Loop) -> None:
    called: list[str] = []
    pipes = [os.pipe() for _ in range(2)]

    def replace_other(mine: int, other: int) -> None:
        called.append("first")
        loop.unwatch(mine)
        loop.unwatch(other)
        os.dup2(mine, other)  # another open file under the same number, with nothing to read
        loop.watch(other, selectors.EVENT_READ, lambda _events: called.append("new"))

    numbers = [reading for reading, _ in pipes]
    for mine, other in (numbers, numbers[::-1]):
        loop.watch(mine, selectors.EVENT_READ, lambda _events, mine=mine, other=other: replace_other(mine, other))
    for _, writing in pipes:
        os.write(writing, b".")
    loop.run_once()
    loop.close()
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)

    assert called == ["first"]
