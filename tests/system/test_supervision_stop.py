"""Everything ends, in order and in time: processes, their groups, what has fled from them, even without the master."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from forkserve.supervision.os.proc import children_of, members_of, relations
from tests.support.forkserving import Forkserve, descriptors, eventually, running

FORKING = """
import os, signal
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
    os._exit(0)
os.wait()
print("up", flush=True)
signal.pause()
"""
"""Leaves a process behind that has a session of its own, and ends."""

SLOW = """
import signal, sys
def stop(*_):
    open("go").read()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
signal.pause()
"""
"""Stops when the test writes to the FIFO `go`. No shell: one that has just forked passes a signal by (dash)."""

STUBBORN = """trap "" TERM; echo deaf; while :; do sleep 1000; done"""


def _position(server: Forkserve, pattern: str) -> int:
    return next(number for number, line in enumerate(server.lines) if pattern in line)


def test_higher_priority_starts_first_and_stops_last(tmp_path: Path) -> None:
    config = """
[watcher:low]
cmd = sleep 1000
[watcher:high]
cmd = sh -c "trap 'exit 0' TERM; sleep 1000 & wait"
priority = 9
[watcher:middle]
cmd = sleep 1000
priority = 5
"""
    with running(cwd=tmp_path, config=config) as server:
        pids = {name: server.started(f"{name}[1]") for name in ("high", "middle", "low")}

        assert server.stop() == 0
        stops = [_position(server, f"{name}: stopping") for name in ("low", "middle", "high")]
        gone = [_position(server, f"{name}[1] pid {pids[name]} was") for name in ("low", "middle")]
        # by their forks: which of them has executed its program first is the kernel's affair
        assert list(pids.values()) == sorted(pids.values())
        assert stops[0] < gone[0] < stops[1] < gone[1] < stops[2]


def test_what_does_not_stop_in_time_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    (tmp_path / "deaf.sh").write_text(STUBBORN)
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh deaf.sh\ngraceful_timeout = 0.2\n") as server:
        server.allow("killed$", "ended by SIGKILL")
        server.expect("^deaf$")

        assert server.stop() == 0
        assert "has not stopped within 0.2 s (graceful_timeout): killed" in server.transcript()


def test_a_second_interrupt_ends_at_once_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "deaf.sh").write_text(STUBBORN)
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh deaf.sh\ngraceful_timeout = 1000\n") as server:
        server.allow("ended by SIGKILL")
        server.expect("^deaf$")
        server.send(signal.SIGINT)
        server.expect("a: stopping 1 process")

        assert server.stop(signal.SIGINT) == 1


def test_a_second_term_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    os.mkfifo(tmp_path / "go")
    with running(cwd=tmp_path, config=f"[watcher:a]\ncmd = {sys.executable} -S slow.py\n") as server:
        server.expect("^up$")
        server.send(signal.SIGTERM)
        server.expect("a: stopping 1 process")
        server.send(signal.SIGTERM)
        server.expect("SIGTERM: stop")
        (tmp_path / "go").write_text("now\n")

        assert server.wait() == 0


def test_what_a_leader_leaves_in_its_group_gets_the_stop_signal_too(tmp_path: Path) -> None:
    (tmp_path / "leader.sh").write_text("sh member.sh & echo up; exec sleep 1000")
    (tmp_path / "member.sh").write_text("trap 'echo told; exit 0' TERM; sleep 1000 & wait")
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh leader.sh\n") as server:
        server.expect("^up$")
        eventually(lambda: _programs(server) == ["sh", "sleep", "sleep"])

        assert server.stop() == 0
        assert "told" in server.lines


def _leaders(server: Forkserve) -> set[int]:
    return {each.pid for each in server.children()}


def _programs(server: Forkserve) -> list[str]:
    return sorted(each.name for each in members_of(_leaders(server)))


def test_stop_children_signals_the_whole_group(tmp_path: Path) -> None:
    (tmp_path / "leader.sh").write_text("trap 'wait; echo all gone; exit 0' TERM; sh member.sh & echo up; wait; wait")
    (tmp_path / "member.sh").write_text("trap 'echo told; exit 0' TERM; sleep 1000 & wait")
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh leader.sh\nstop_children = True\n") as server:
        server.expect("^up$")
        eventually(lambda: _programs(server) == ["sh", "sh", "sleep"])

        assert server.stop() == 0
        assert server.lines.index("told") < server.lines.index("all gone")


def test_a_daemon_that_has_fled_from_its_group_is_ended_too(tmp_path: Path) -> None:
    (tmp_path / "flee.sh").write_text("setsid sleep 1000 & echo up; exec sleep 1000")
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh flee.sh\n") as server:
        server.expect("^up$")
        eventually(lambda: _have_fled(server))

        assert server.stop() == 0
        server.expect(r"pid \d+ \(sleep\) has left its process group: ending it")


def _have_fled(server: Forkserve) -> bool:
    leaders = _leaders(server)
    return any(each.session == each.pid and each.parent in leaders for each in relations())


def test_a_kill_9_of_the_master_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "deaf.sh").write_text(STUBBORN)
    (tmp_path / "flee.sh").write_text("setsid sleep 1000 & exec sleep 1000")
    config = """
[watcher:deaf]
cmd = sh deaf.sh
graceful_timeout = 0.3
[watcher:many]
cmd = sleep 1000
numprocesses = 3
[watcher:fleeing]
cmd = sh flee.sh
"""
    with running(cwd=tmp_path, config=config) as server:
        server.expect_all("^deaf$", "fleeing.* started")
        eventually(lambda: _have_fled(server))

        assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_kill_9_in_the_instant_of_a_start_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "deaf.sh").write_text(STUBBORN)
    config = """
[watcher:first]
cmd = sleep 1000
priority = 1
graceful_timeout = 0.1
[watcher:deaf]
cmd = sh deaf.sh
graceful_timeout = 0.1
numprocesses = 3
"""
    for _ in range(3):
        with running(cwd=tmp_path, config=config) as server:
            server.expect("^deaf$")

            assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_stop_that_comes_in_the_middle_of_a_slow_stop_is_not_lost_and_blocks_no_other_watcher(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    os.mkfifo(tmp_path / "go")
    config = f"""
[socket:web]
port = 0
[watcher:web]
cmd = {sys.executable} -S slow.py $(circus.sockets.web)
[watcher:other]
cmd = sleep 1000
"""
    with running(cwd=tmp_path, config=config) as server:
        server.allow("ended by SIGKILL.*restarting")
        server.expect("^up$")
        server.send(signal.SIGWINCH)
        server.expect("web: stopping 1 process")
        other = server.rewound().started("other[1]")
        os.kill(other, signal.SIGKILL)
        server.expect(r"other\[1\] .* restarting")
        server.started("other[1]")
        server.send(signal.SIGTERM)
        server.expect("SIGTERM: stop")
        server.expect(r"other\[1\] .* was ended by SIGTERM")
        (tmp_path / "go").write_text("now\n")

        assert server.wait() == 0


def test_a_flood_of_signals_loses_no_term(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.started("a[1]")
        server.allow("held the loop")  # it may be stopped within a callback
        os.kill(server.pid, signal.SIGSTOP)
        for _ in range(1000):
            server.send(signal.SIGHUP)
        server.send(signal.SIGTERM)
        os.kill(server.pid, signal.SIGCONT)

        assert server.wait() == 0


def test_strangers_that_are_adopted_are_reaped_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "fork.py").write_text(FORKING)
    config = f"[watcher:a]\ncmd = {sys.executable} -S fork.py\n"
    with running(cwd=tmp_path, config=config) as server:
        server.expect("^up$")
        eventually(lambda: not [each for each in relations() if each.parent == server.pid and each.is_dead])
        lines = [line for line in server.lines if "a[1]" not in line and "pid" in line]

        assert len(lines) == 1, lines  # the greeting


def test_descriptors_do_not_grow_with_restarts(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\nstdout_stream.filename = a.log\n") as server:
        server.allow("ended by SIGKILL.*restarting")
        pid = server.started("a[1]")
        before = descriptors(server.pid)
        for _ in range(20):
            os.kill(pid, signal.SIGKILL)
            pid = server.started("a[1]")

        eventually(lambda: descriptors(server.pid) <= before)


def test_a_stderr_that_nobody_reads_does_not_stop_the_master(tmp_path: Path) -> None:
    config = """
[watcher:loud]
cmd = true
max_retry = -1
backoff = 0
close_child_stderr = True
"""
    with running(cwd=tmp_path, config=config) as server:
        fcntl.fcntl(server.stderr, fcntl.F_SETPIPE_SZ, 4096)
        server.started("loud[1]")
        eventually(lambda: _unread(server.stderr) > 0)
        before = _cpu(server.pid)
        eventually(lambda: _cpu(server.pid) > before + 3)
        server.send(signal.SIGTERM)
        server.process.wait(20)

        assert server.wait() == 0


def _unread(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"1234"))[0])


def _cpu(pid: int) -> int:
    """Return the ticks that a process has used."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a process namespace")
def test_as_the_first_process_of_a_container_it_reaps_strangers_and_ends_them(tmp_path: Path) -> None:
    (tmp_path / "stray.sh").write_text("(setsid true &); (setsid sleep 1000 &); echo up; exec sleep 1000")
    (tmp_path / "stack.ini").write_text("[watcher:a]\ncmd = sh stray.sh\n")
    container = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    line = [*container, sys.executable, "-m", "forkserve", "--control", "none", "-c", "stack.ini"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as outside:
        assert outside.stdout is not None
        assert outside.stdout.readline() == "up\n"
        (inside,) = children_of(outside.pid)
        eventually(lambda: len(children_of(inside.pid)) == 4)  # with the guard and what keeps the output for `logs`
        eventually(lambda: not [each for each in relations() if each.parent == inside.pid and each.is_dead])
        os.kill(inside.pid, signal.SIGTERM)
        _, log = outside.communicate(timeout=20)

        assert outside.returncode == 0
        assert "(sleep) has left its process group: ending it" in log
        assert "pid 1\n" in log
