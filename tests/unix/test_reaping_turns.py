"""Many exits at once are handled for a moment at a stretch: others have their turn in between."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from forkserve.supervision.os.reap import Exit
from forkserve.supervision.reaping import AT_A_TIME, Reaper
from tests.support.supervision import ManualLoop, World

pytestmark = pytest.mark.usefixtures("nothing_left")

CHILDREN = 5


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """Have some children end, and stay zombies."""
    children = [subprocess.Popen(["true"]) for _ in range(CHILDREN)]
    pids = [each.pid for each in children]
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pids
    for each in children:
        each.wait()


def _slowly(told: list[int]) -> Reaper:
    """Return a reaper for which what follows from an exit takes as long as a stretch."""

    def tell(exit_: Exit) -> None:
        if exit_.pid in told:
            raise AssertionError(f"{exit_.pid} has ended twice")
        told.append(exit_.pid)
        enough = time.monotonic() + AT_A_TIME
        while time.monotonic() <= enough:
            pass

    loop = ManualLoop()
    loop.now = time.monotonic  # type: ignore[method-assign]
    return Reaper(World(loop=loop).supervisor, loop, listeners=(tell,), then=lambda: None)


def test_one_exit_that_takes_long_is_handled_in_a_turn(ended: list[int]) -> None:
    told: list[int] = []
    reaper = _slowly(told)
    while not set(ended) <= set(told):  # an orphan that a test before has left may end meanwhile
        before = len(told)
        reaper.reap()
        assert len(told) == before + 1


def test_each_sigchld_of_a_storm_does_not_add_to_what_a_turn_takes(ended: list[int]) -> None:
    told: list[int] = []
    reaper = _slowly(told)
    reaper.reap()
    reaper.reap()
    loop = reaper._loop
    assert isinstance(loop, ManualLoop)
    pending = [each for _, _, each in loop.appointments if each.callback == reaper.reap]
    assert (len(told), len(pending)) == (2, 1)
