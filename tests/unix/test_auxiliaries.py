"""The companions of the master end with it, whatever goes wrong when they are dismissed."""

from __future__ import annotations

import os
import select
import signal

import pytest

from forkserve.supervision.auxiliaries.auxiliaries import AuxiliaryProcesses
from forkserve.supervision.events import BugCaught, Event
from forkserve.supervision.os.guard import Guard
from forkserve.supervision.os.reap import Exit
from tests.support.supervision import ManualLoop

pytestmark = pytest.mark.usefixtures("nothing_left")


class Attendant:
    """A program beside the master that fails whatever it is told."""

    pid = None
    name = "attendant"

    def start(self) -> None:
        """It runs."""

    def reaped(self, pid: int) -> None:
        raise RuntimeError("reaped")

    def close(self) -> None:
        raise RuntimeError("close")


def test_a_companion_that_could_not_be_dismissed_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, events = ManualLoop(), list[Event]()
    companions = AuxiliaryProcesses(loop, events.append)
    companions.begin()
    companions.keep_running(Attendant())
    (guard,), posted = companions.pids, companions._guard
    assert posted is not None
    ended = os.pidfd_open(guard)
    with monkeypatch.context() as patched:
        patched.setattr(Guard, "close", lambda _guard: 1 / 0)
        companions.close()
    assert companions.pids == {guard}

    loop.clock += 3.0
    loop.serve()
    assert select.select([ended], [], [], 20)[0]
    os.close(ended)
    posted.close()
    _, status = os.waitpid(guard, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    companions.reaped(Exit(guard, None, signal.SIGKILL))
    assert not companions.pids
    assert [type(each) for each in events] == [BugCaught] * 3
