"""The guardian ends what a killed master leaves, grandchildren included, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import os, signal, sys
from forkserve.unix.guard import Guard
from forkserve.unix.spawn import SpawnSpec, spawn
guard = Guard()
for command in sys.argv[2:]:
    pid = spawn(SpawnSpec(argv=("/bin/sh", "-c", command), env={}, stdout=1, stderr=None, death_signal=0))
    guard.began(pid, signal.SIGTERM, 0.3)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
for line in sys.stdin:
    break
guard.ended(pid)
os.killpg(pid, signal.SIGKILL)
os.waitpid(pid, 0)
guard.close()
print(os.waitpid(guard.pid, 0)[1])
"""


def run(end: str, *commands: str) -> subprocess.CompletedProcess[str]:
    """Run a master with these children; its end of file means that every one of them has gone."""
    command = [sys.executable, "-c", SCRIPT, end, *commands]
    return subprocess.run(command, input="\n", stdout=subprocess.PIPE, text=True, timeout=20)


def test_grandchildren_end_with_a_killed_master() -> None:
    assert run("killed", "sleep 100 & sleep 100 & wait").returncode == -signal.SIGKILL


def test_a_group_that_ignores_its_stop_signal_is_killed_after_its_grace() -> None:
    assert run("killed", "trap '' TERM; sleep 100", "sleep 100").returncode == -signal.SIGKILL


def test_the_guardian_goes_home_with_an_orderly_master() -> None:
    done = run("orderly", "sleep 100")

    assert done.returncode == 0
    assert done.stdout == "0\n"
