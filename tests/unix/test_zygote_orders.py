"""What a zygote was asked for may serve before the master hears of it: it is told to stop as any other, not killed."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from forkserve.supervision.jobs.advance import Start, Stop
from forkserve.supervision.lifecycle import ProcessState
from forkserve.supervision.os.spawn import Spawned, SpawnSpec
from forkserve.supervision.process import Process
from tests.support.supervision import Child, FakeKernel, World, options


class ZygoteKernel(FakeKernel):
    """Keeps the zygote's end of its channel, and each signal that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[socket.socket] = []
        self.sent: list[tuple[int, int]] = []

    def fork(self, spec: SpawnSpec, *, rehearse: bool = False) -> Spawned:
        channel = spec.places[int(spec.env["FORKSERVE_ZYGOTE"])]
        assert channel is not None
        self.ends.append(socket.socket(fileno=os.dup(channel)))
        return super().fork(spec, rehearse=rehearse)

    def signal(self, pid: int, signum: int) -> None:
        self.sent.append((pid, signum))
        super().signal(pid, signum)

    def forks(self, number: int) -> int:
        """Have a worker, whose pid is that of the test, say its number; returns the pid."""
        self.children[os.getpid()] = Child(os.getpid(), ("worker",), report=-1, outcome=True)
        self.ends[-1].send(json.dumps({"number": number}).encode())
        return os.getpid()


@pytest.fixture
def world() -> Iterator[World]:
    """One worker was asked of a zygote, which has not answered."""
    world = World((options(cmd="forkserve-worker site:app", preload=True),), kernel=ZygoteKernel())
    world.submit(Start())
    world.runs(world.kernel.living[0])
    world.says(world.kernel.living[0], READY="1")
    yield world
    for each in _kernel(world).ends:
        each.close()
    world.watcher().close()


def _kernel(world: World) -> ZygoteKernel:
    assert isinstance(world.kernel, ZygoteKernel)
    return world.kernel


def _asked(world: World) -> Process:
    (process,) = (each for each in world.processes() if not each.is_zygote)
    assert world.watcher().population.zygotes.states[0].asked == process.number
    return process


def test_a_worker_that_is_forked_while_its_watcher_stops_is_told_to_stop(world: World) -> None:
    process, kernel = _asked(world), _kernel(world)
    kernel.living[0].obeys = False  # it forks still
    stop = world.submit(Stop())
    assert not stop.done and process.state is ProcessState.DRAINING

    pid = kernel.forks(process.number)
    world.loop.ready(world.watcher().population.zygotes.states[0].channel)

    assert process.pid == pid
    assert [signum for to, signum in kernel.sent if to == pid] in ([signal.SIGTERM], [signal.SIGTERM, signal.SIGCONT])
    kernel.end(kernel.living[0], code=0)
    world.reap()
    assert stop.done and not stop.error and not world.bugs()


def test_a_zygote_that_ends_without_an_answer_takes_what_it_was_asked_for_along(world: World) -> None:
    process, kernel = _asked(world), _kernel(world)
    stop = world.submit(Stop())  # it ends at once
    world.reap()
    world.settle()
    assert stop.done and not world.processes()
    with pytest.raises(BrokenPipeError):  # a worker of which nobody knows must not serve
        kernel.forks(process.number)


def test_what_is_said_before_the_zygote_ends_is_heard(world: World) -> None:
    process, kernel = _asked(world), _kernel(world)
    zygote = kernel.living[0]
    pid = kernel.forks(process.number)
    kernel.end(zygote, signum=signal.SIGKILL)
    world.reap()
    assert process.pid == pid and process.state is ProcessState.SPAWNING


@pytest.mark.parametrize("what", ["take", "has_begun"])
def test_an_answer_that_a_bug_has_lost_is_made_good(world: World, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    process, kernel = _asked(world), _kernel(world)
    zygotes = world.watcher().population.zygotes

    def bug(*_: object) -> None:
        raise RuntimeError(what)

    with monkeypatch.context() as patched:
        patched.setattr(zygotes._waiting if what == "take" else world.watcher().processes, what, bug)
        pid = kernel.forks(process.number)
        world.loop.ready(zygotes.states[0].channel)
    world.pass_time(1.0)

    assert len(world.bugs()) == 1
    assert process.pid == pid and pid in world.supervisor.living
    world.says(kernel.children[pid], READY="1")
    assert process.is_ready
