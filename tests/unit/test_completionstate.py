"""Promises are written with what they are made of, and kept by whatever reads them."""

from __future__ import annotations

import json

import pytest

from forkserve.errors import ConfigError, ControlError, ExitCode, ForkserveError, UnknownNameError
from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.jobqueue.queue import Superseded
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter


def read_again(*completions: Completion) -> list[Completion]:
    writer = CompletionWriter()
    numbers = [writer.number(each) for each in completions]
    reader = CompletionReader(json.loads(json.dumps(writer.data)))
    return [reader[number] for number in numbers]


def test_a_promise_that_is_shared_stays_shared() -> None:
    one, other = Completion(), Completion()
    first, second, third = read_again(one, other, one)
    assert first is third and first is not second
    assert not first.done


def test_a_promise_made_of_others_is_kept_when_they_are() -> None:
    one, other = Completion(), Completion()
    both = all_of([one, all_of([other, one], "inner")], "all")
    again, first, second = read_again(both, one, other)
    first.succeed("one")
    assert not again.done
    second.succeed("other")
    assert again.result == "all"


def test_a_promise_of_which_a_part_was_kept_before_waits_for_the_rest_alone() -> None:
    one, other = Completion(), Completion()
    both = all_of([one, other], "all")
    one.fail(ControlError("no"))
    again, second = read_again(both, other)
    assert not again.done
    second.succeed("other")
    assert str(again.error) == "no"


@pytest.mark.parametrize(
    "error",
    [
        Superseded("web: a start gave way"),
        ControlError("no"),
        UnknownNameError("no web", "no-such-watcher"),
        ConfigError("a.ini:1: no"),
    ],
)
def test_a_result_and_an_error_are_what_they_were(error: ForkserveError) -> None:
    good, bad = Completion(), Completion()
    good.succeed("done")
    bad.fail(error)
    first, second = read_again(good, bad)
    assert first.result == "done"
    assert str(second.error) == str(error)
    assert second.error is not None and second.error.exit_code == ExitCode(error.exit_code)
    for kind in (Superseded, UnknownNameError, ControlError):
        assert isinstance(second.error, kind) == isinstance(error, kind)
    assert getattr(second.error, "code", None) == getattr(error, "code", None)
