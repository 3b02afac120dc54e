"""Many processes: started, asked about, left alone and stopped, at little cost and without a pause of the loop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storm.victim import Victim
from tests.support.forkserving import eventually

MANY, EVERY_DAY = 500, 100
WATCHERS = 2
PATIENCE = 100.0
STATUS = 0.3
"""Seconds of the master's CPU for one status of MANY; a tick of its clock is 0.01."""
IDLE = 0.1
"""Seconds of the master's CPU in two seconds of nothing."""

CONFIG = """
[watcher:{name}]
cmd = sh sleeper.sh
numprocesses = {count}
ready_after = 0.1
graceful_timeout = 60
"""
SLEEPER = """\
# Does nothing, until it is asked to end.
name=$1
trap 'exit 0' TERM
umask 077
cd /
exec sleep 100000
"""


@contextlib.contextmanager
def crowd(folder: Path, count: int) -> Iterator[Victim]:
    """Run so many processes, all ready; nothing may be left, and the loop may not have been held."""
    (folder / "sleeper.sh").write_text(SLEEPER)
    config = folder / "many.ini"
    config.write_text("".join(CONFIG.format(name=f"w{n}", count=count // WATCHERS) for n in range(WATCHERS)))
    master = Victim(folder, config)
    try:
        eventually(master.control.exists, timeout=PATIENCE)
        eventually(lambda: states(master) == ["ready"] * count, timeout=PATIENCE)
        yield master
        master.send(signal.SIGTERM)
        assert master.process.wait(PATIENCE) == 0
        assert master.ended.wait(PATIENCE), "a process is left"
        assert not master.faults
        assert len(master.holds) <= 1, master.holds
    finally:
        master.kill_everything()


def states(master: Victim) -> list[str]:
    """Return the states of all processes."""
    answer = master.call("status", timeout=PATIENCE)
    assert answer.status == 200, answer.body
    return [each["state"] for watcher in answer.body for each in watcher["processes"]]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "count",
    [EVERY_DAY, pytest.param(MANY, marks=pytest.mark.slow)],  # half a minute on two cores
)
def test_many_processes_cost_little(count: int, tmp_path: Path) -> None:
    with crowd(tmp_path, count) as master:
        before = master.cpu()
        for _ in range(5):
            assert len(states(master)) == count
        assert (master.cpu() - before) / 5 < STATUS * count / MANY

        before = master.cpu()
        threading.Event().wait(2)
        assert master.cpu() - before < IDLE

        stopped = master.call("stop", timeout=PATIENCE, watcher="w0")
        assert stopped.status == 200, stopped.body
        assert states(master) == ["ready"] * (count // 2)

        assert master.call("restart", timeout=PATIENCE, watcher="w1").status == 200
        assert states(master) == ["ready"] * (count // 2)
