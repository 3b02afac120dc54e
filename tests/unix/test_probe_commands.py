"""The command of a probe (`ready = exec:...`): it heeds signals as it would in a shell, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from forkserve.config.probes import probe
from forkserve.supervision.os import probe as probing
from forkserve.supervision.os.forkedcall import call_in_fork
from forkserve.supervision.os.loop import Loop

PATIENCE = 20.0


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[int]:
    """Return the reading end of the FIFO `held`; it is at its end when everything that holds the other has ended."""
    os.mkfifo(tmp_path / "held")
    fd = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    yield fd
    os.close(fd)


def read(fd: int) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(PATIENCE * 1000), "nothing was written, and nothing has ended"
    return os.read(fd, 100)


def ask(loop: Loop, command: str) -> object:
    """Return what a helper answers that asks this process by a command."""
    found: list[object] = []

    def take(outcome: object) -> None:
        found.append(outcome)
        loop.stop()

    call = call_in_fork(
        loop, partial(probing.ask, probe(f"exec:{command}"), os.getpid()), take, title="a test", timeout=PATIENCE
    )
    loop.run()
    os.waitpid(call.pid, 0)
    return found[0]


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_a_command_is_ended_by_a_signal_that_its_helper_ignores(loop: Loop, name: str) -> None:
    answer = ask(loop, f"sh -c 'kill -{name} $$; exit 0'")
    assert str(answer).endswith(f"ended with -{signal.Signals[f'SIG{name}'].value}")


def test_what_a_command_leaves_in_the_background_is_ended(loop: Loop, tmp_path: Path, reading: int) -> None:
    assert ask(loop, f"sh -c 'echo begun > {tmp_path}/held; sleep 1000 > {tmp_path}/held & exit 0'") == ""
    while read(reading):
        pass


def test_the_programs_of_a_shell_that_takes_too_long_are_ended(
    loop: Loop, tmp_path: Path, reading: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "TIMEOUT", 0.5)
    answer = ask(loop, f"sh -c '(echo begun; sleep 1000) > {tmp_path}/held; exit 0'")
    assert str(answer).endswith("not done within 0.4 s")
    while read(reading):
        pass


def test_the_programs_of_a_probe_that_is_cancelled_are_ended(loop: Loop, tmp_path: Path, reading: int) -> None:
    command = probe(f"exec:sh -c '(echo begun; sleep 1000) > {tmp_path}/held; exit 0'")
    found: list[object] = []
    call = call_in_fork(
        loop, partial(probing.ask, command, os.getpid()), found.append, title="a test", timeout=PATIENCE
    )
    assert read(reading) == b"begun\n"
    call.cancel()
    assert read(reading) == b""
    os.waitpid(call.pid, 0)
    assert not found
