"""A function in a forked child: its result, its exception, its deadline; and the loop that goes on meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from forkserve.errors import ConfigError, ConfigErrors
from forkserve.supervision.os.forkedcall import CallFailedError, call_in_fork
from forkserve.supervision.os.loop import Loop
from tests.support.descriptors import open_fds


def outcome_of(loop: Loop, function: Callable[[], object], *, timeout: float = 20.0) -> object:
    found: list[object] = []

    def take(outcome: object) -> None:
        found.append(outcome)
        loop.stop()

    call = call_in_fork(loop, function, take, title="a test", timeout=timeout)
    loop.run()
    os.waitpid(call.pid, 0)
    assert len(found) == 1
    return found[0]


def test_it_gives_what_the_function_returns(loop: Loop) -> None:
    assert outcome_of(loop, lambda: {"answer": 42, "large": "x" * 1_000_000}) == {
        "answer": 42,
        "large": "x" * 1_000_000,
    }


def test_it_runs_in_another_process_without_our_descriptors(loop: Loop) -> None:
    pid, fds = outcome_of(loop, lambda: (os.getpid(), open_fds()))  # type: ignore[misc]
    assert pid != os.getpid()
    assert len(fds) == 4, "standard input, output and error, and the pipe"


def test_an_exception_comes_back_as_it_was(loop: Loop) -> None:
    def refuse() -> None:
        raise ConfigErrors((ConfigError("a.ini:1: wrong"), ConfigError("a.ini:2: wrong too")), ("a warning",))

    error = outcome_of(loop, refuse)
    assert isinstance(error, ConfigErrors)
    assert [str(each) for each in error.errors] == ["a.ini:1: wrong", "a.ini:2: wrong too"]
    assert error.warnings == ("a warning",) and str(error) == "a.ini:1: wrong\na.ini:2: wrong too"


def test_a_function_that_waits_for_ever_is_ended_and_the_loop_goes_on_meanwhile(loop: Loop, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(loop.now())
        loop.call_later(0.01, tick)

    tick()
    error = outcome_of(loop, fifo.read_text, timeout=1.5)
    assert isinstance(error, CallFailedError) and str(error) == "took longer than 1.5 s"
    assert len(ticks) > 5


def test_a_child_that_dies_is_told(loop: Loop) -> None:
    error = outcome_of(loop, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert isinstance(error, CallFailedError) and str(error) == "has died"


def test_a_call_that_is_cancelled_never_calls_back(loop: Loop, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[object] = []
    call = call_in_fork(loop, fifo.read_text, found.append, title="a test", timeout=20.0)
    call.cancel()
    _, status = os.waitpid(call.pid, 0)
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert found == []


WHILE_DECODED: list[Callable[[], object]] = []


def _decode() -> str:
    WHILE_DECODED.pop()()
    return "decoded"


class Watched:
    """An answer of which the test sees when it is decoded."""

    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return _decode, ()


def test_an_answer_is_decoded_in_one_callback_and_used_in_another(loop: Loop) -> None:
    begun: list[float] = []
    WHILE_DECODED.append(lambda: begun.append(loop.began))

    def take(outcome: object) -> None:
        assert outcome == "decoded"
        begun.append(loop.began)
        loop.stop()

    call = call_in_fork(loop, Watched, take, title="a test", timeout=20.0)
    loop.run()
    os.waitpid(call.pid, 0)
    assert begun[0] < begun[1]


def test_a_call_that_is_cancelled_after_its_answer_was_decoded_never_calls_back(loop: Loop) -> None:
    found: list[object] = []
    call = call_in_fork(loop, Watched, found.append, title="a test", timeout=20.0)
    WHILE_DECODED.append(lambda: loop.call_at(0.0, call.cancel))
    while WHILE_DECODED:
        loop.run_once()
    loop.call_later(0.01, loop.stop)
    loop.run()
    os.waitpid(call.pid, 0)
    assert not found
