"""Our own children, as the kernel lists them: the living ones, adopted and forked alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from forkserve.supervision.os import proc


def test_own_children_are_found_without_a_walk_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing else tells what was read: the result is the same either way
    monkeypatch.setattr(proc, "relations", lambda: pytest.fail("all processes were looked at"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        (found,) = (each for each in proc.children_of(os.getpid()) if each.pid == child.pid)  # others may be adopted
        assert (found.parent, found.is_dead) == (os.getpid(), False)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert child.pid not in {each.pid for each in proc.children_of(os.getpid())}


def test_without_the_kernels_list_all_processes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    # as by a kernel without CONFIG_PROC_CHILDREN, which none of ours is
    monkeypatch.setattr(proc, "_listed_children", lambda _pid: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in {each.pid for each in proc.children_of(os.getpid())}
        child.kill()


def test_members_of_a_session_are_found_without_reading_what_strangers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    parse = proc._parse
    monkeypatch.setattr(proc, "_parse", lambda pid, stat: read.append(pid) or parse(pid, stat))
    argv = [sys.executable, "-uc", "import os; child = os.fork(); child and print(child); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        pids = {leader.pid, int(leader.stdout.readline())}
        assert {each.pid for each in proc.members_of({leader.pid})} == pids
        assert set(read) == pids
        os.killpg(leader.pid, signal.SIGKILL)
        os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert leader.pid not in {each.pid for each in proc.members_of({leader.pid})}
