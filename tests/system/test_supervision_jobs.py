"""Verbs, reloads and faults in orders that were reported to break supervisors; each input failed once."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient
from tests.support import commands
from tests.support.forkserving import Forkserve, descriptors, eventually, running

ACCEPT_LOOP = Path(__file__).parents[2] / "examples" / "accept_loop.py"

WEB = f"""
[socket:web]
port = 0
[watcher:web]
cmd = {sys.executable} -S {ACCEPT_LOOP} $(circus.sockets.web)
use_sockets = True
ready_after = 0.1
numprocesses = 2
"""

DB = """
[watcher:db]
cmd = sleep 1000
ready_after = 0.1
"""

SAYS_READY = """
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as master:
    master.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
sys.exit(1)
"""


def _ctl(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return commands.ctl(folder, "--socket", "c.sock", *argv)


def test_a_stop_before_its_turn_at_the_start_of_all_is_kept(tmp_path: Path) -> None:
    config = "[circus]\nwarmup_delay = 1\n" + "".join(
        f"[watcher:{name}]\ncmd = sleep 1000\npriority = {priority}\n" for priority, name in enumerate("cba")
    )
    with running("--control", "c.sock", cwd=tmp_path, config=config) as server:
        server.started("a[1]")
        with ControlClient(tmp_path / "c.sock", timeout=20) as client:  # a program would take half of the second
            client.call("stop", watcher="b")
        server.started("c[1]")

        assert "b[1]" not in server.transcript()


def test_a_window_that_changes_a_removal_and_hup_are_no_bug(tmp_path: Path) -> None:
    with running("--log-level", "debug", cwd=tmp_path, config=WEB + DB) as server:
        server.expect_all(r"web\[1\].* is ready", r"web\[2\].* is ready", r"db\[1\].* is ready")
        server.send(signal.SIGWINCH)
        server.expect_all(r"web\[1\] pid \d+ was ended", r"web\[2\] pid \d+ was ended")
        (tmp_path / "stack.ini").write_text(DB)
        server.send(signal.SIGHUP)
        server.expect("configuration read again: web goes")
        server.expect("web is gone")


def test_hup_after_winch_starts_each_worker_once(tmp_path: Path) -> None:
    with running("--log-level", "debug", cwd=tmp_path, config=WEB) as server:
        server.expect_all(r"web\[1\].* is ready", r"web\[2\].* is ready")
        server.send(signal.SIGWINCH)
        server.expect_all(r"web\[1\] pid \d+ was ended", r"web\[2\] pid \d+ was ended")
        server.send(signal.SIGHUP)
        server.expect("configuration read again: nothing has changed")
        server.expect_all(r"web\[1\].* is ready", r"web\[2\].* is ready")

        assert server.transcript().count(" started: ") == 4


@pytest.mark.slow
def test_a_slow_stop_of_what_a_reload_has_removed_keeps_its_own_time(tmp_path: Path) -> None:
    script = "trap 'echo draining >&2; sleep 5.5; exit 0' TERM; echo here >&2; while :; do sleep 0.1; done"
    slow = f'[watcher:slow]\ncmd = /bin/sh -c "{script}"\ncopy_env = True\ngraceful_timeout = 15\n'
    with running("--control", "c.sock", cwd=tmp_path, config=slow + DB) as server:
        server.expect("here")
        _ctl(tmp_path, "stop", "slow", "--no-wait")
        server.expect("draining")
        (tmp_path / "stack.ini").write_text(DB)
        server.send(signal.SIGHUP)
        server.expect("slow goes")
        server.send(signal.SIGTERM)

        assert server.wait() == 0
        server.rewound().expect(r"slow\[1\] pid \d+ exited with code 0")


def test_a_single_process_whose_new_command_cannot_be_found_keeps_running(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=DB) as server:
        server.allow("reload of db failed")
        pid = server.started("db[1]")
        for line, reason in (
            ("cmd = /nonexistent/prog", "No such file"),
            ("cmd = nonexistent-prog", "not found"),
        ):
            (tmp_path / "stack.ini").write_text(DB.replace("cmd = sleep 1000", line))
            server.send(signal.SIGHUP)
            server.expect(rf"reload of db failed, 1 process kept as before: .*{reason}")

        eventually(lambda: [each.pid for each in server.children()] == [pid])


def test_a_single_process_whose_successor_fails_comes_back_with_its_old_command(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=DB) as server:
        server.allow("reload of db failed")
        server.started("db[1]")
        (tmp_path / "stack.ini").write_text(DB.replace("sleep 1000", "false"))
        server.send(signal.SIGHUP)
        server.expect(r"db\[1\] pid \d+ exited with code 1")
        server.expect(r"db\[1\] pid \d+ started: sleep 1000")
        server.expect("reload of db failed, 0 processes kept as before, 1 process put back")


def test_what_becomes_a_singleton_keeps_one_process_of_those_that_were_asked_for(tmp_path: Path) -> None:
    with running("--control", "c.sock", cwd=tmp_path, config=DB) as server:
        server.started("db[1]")
        _ctl(tmp_path, "incr", "db", "2")
        server.started("db[3]")
        (tmp_path / "stack.ini").write_text(DB + "singleton = True\n")
        _ctl(tmp_path, "reloadconfig")
        eventually(lambda: len(server.children()) == 1)


def test_a_singleton_becomes_three_processes_in_one_reload(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=DB + "singleton = True\n") as server:
        server.started("db[1]")
        (tmp_path / "stack.ini").write_text(DB + "numprocesses = 3\n")
        server.send(signal.SIGHUP)
        server.expect("configuration read again")
        server.started("db[1]")
        server.started("db[2]")
        server.started("db[3]")

        eventually(lambda: len(server.children()) == 3)


def test_reload_replaces_a_single_process_too(tmp_path: Path) -> None:
    off = "[watcher:off]\ncmd = sleep 1000\nautostart = False\n"
    with running("--control", "c.sock", cwd=tmp_path, config=DB + off) as server:
        before = server.started("db[1]")
        done = _ctl(tmp_path, "reload")

        assert (done.returncode, done.stdout) == (0, "reloaded; off stopped, left alone\n")
        assert server.started("db[1]") != before


def test_a_process_that_dies_right_after_ready_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "ready.py").write_text(SAYS_READY)
    config = f"[watcher:web]\ncmd = {sys.executable} -S ready.py\nmax_retry = 3\nbackoff = 0.1\ncopy_env = True\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("given up", "giving up")

        assert server.wait() == 70
        assert server.transcript().count(" started: ") == 3


BUG = """
from forkserve.supervision.slots.population import Population

exited = Population.exited

def fails(population, process):
    if process.watcher == "bad":
        raise RuntimeError("a bug for a test")
    exited(population, process)

Population.exited = fails
"""


def _kill_all(server: Forkserve, *pids: int) -> None:
    """Kill several at once, so that one SIGCHLD may stand for all."""
    server.allow("held the loop")  # it may be stopped within a callback
    server.send(signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    server.send(signal.SIGCONT)


def test_a_bug_in_one_watcher_costs_no_other_and_the_master_still_ends(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BUG)
    config = "[watcher:bad]\ncmd = sleep 1000\nbackoff = 0.2\n[watcher:good]\ncmd = sleep 1000\nready_after = 0.1\n"
    with running(cwd=tmp_path, config=config, env={"PYTHONPATH": str(tmp_path)}) as server:
        server.allow("a bug", "Traceback", "a bug for a test")
        bad, good = server.started("bad[1]"), server.started("good[1]")
        _kill_all(server, bad, good)
        server.expect(r"the end of bad\[1\] pid \d+ is dropped and supervision goes on")
        server.started("good[1]")
        server.started("bad[1]")

        assert server.stop() == 0


def test_no_descriptor_left_ends_nothing(tmp_path: Path) -> None:
    with running("--control", "c.sock", cwd=tmp_path, config=WEB + DB) as server:
        first, second, db = server.started("web[1]"), server.started("web[2]"), server.started("db[1]")
        server.allow("Too many open files")
        limit = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        scarce = (descriptors(server.pid) - 9, limit[1])  # each process that ends frees two or three
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, scarce)
        _kill_all(server, first, second, db)
        server.expect_all(r"web\[1\] .*Too many open files.*restart", r"db\[1\] .*Too many open files.*restart")
        server.send(signal.SIGHUP)
        server.expect("reload refused")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limit)
        server.started("web[1]")
        server.started("db[1]")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, scarce)

        assert server.stop() == 0
