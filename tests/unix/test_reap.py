"""The dead are collected completely, and signals are queued in order."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from forkserve.supervision.os.reap import Exit, reap, reap_one
from forkserve.supervision.os.signals import SignalQueue
from forkserve.supervision.os.spawn import SpawnSpec
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")


def shell(script: str) -> int:
    return spawn(SpawnSpec(argv=("/bin/sh", "-c", script), env={}))


def wait_for(queue: SignalQueue) -> list[int]:
    assert select.select([queue], [], [], 10)[0]
    return queue.take()


def test_one_sigchld_may_stand_for_many_deaths_and_none_is_missed() -> None:
    queue = SignalQueue([signal.SIGCHLD])
    expected = {Exit(shell(f"exit {code}"), code, None) for code in range(5)}
    expected.add(Exit(shell("kill -KILL $$"), None, signal.SIGKILL))
    ours = {each.pid for each in expected}
    found: set[Exit] = set()
    while len(found) < 6:
        assert set(wait_for(queue)) == {signal.SIGCHLD}
        while exits := reap(10):  # orphans too, which this process has adopted in another test
            found |= {each for each in exits if each.pid in ours}
    queue.close()

    assert found == expected


def test_there_is_nothing_to_reap_without_children_or_while_they_live() -> None:
    alone = "from forkserve.supervision.os.reap import reap; assert reap(10) == []"  # we may have adopted orphans
    assert subprocess.run([sys.executable, "-c", alone], check=False).returncode == 0
    pid = shell("sleep 100")
    assert pid not in {each.pid for each in reap(10)}
    assert reap_one(pid) is None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert reap_one(pid) == Exit(pid, None, signal.SIGKILL)
    assert reap_one(pid) is None


def test_signals_are_taken_in_order_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    queue = SignalQueue([signal.SIGUSR1, signal.SIGUSR2])
    for signum in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2):
        signal.raise_signal(signum)
    taken = wait_for(queue)
    more = queue.take()
    queue.close()

    assert taken == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2]
    assert more == []
    assert before == (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2))
