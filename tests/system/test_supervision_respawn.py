"""Processes are kept: replaced within milliseconds, given up when they cannot run, never left as zombies."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from forkserve.supervision.os.proc import relations
from tests.support.forkserving import descriptors, eventually, running

ACCEPT_LOOP = Path(__file__).parent.parent.parent / "examples" / "accept_loop.py"


def test_a_killed_process_is_replaced_at_once_in_its_slot(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\nnumprocesses = 3\n") as server:
        pids = [server.started(f"a[{wid}]") for wid in (1, 2, 3)]
        server.allow("ended by SIGKILL.*restarting")
        os.kill(pids[1], signal.SIGKILL)

        server.expect(rf"a\[2\] pid {pids[1]} was ended by SIGKILL after .*; restarting")
        replacement = server.started("a[2]")

        assert {each.pid for each in server.children()} == {pids[0], replacement, pids[2]}


def test_a_storm_of_a_hundred_kills_under_load_fails_no_request_outside_a_killed_process(tmp_path: Path) -> None:
    kills = 100
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        fd = listener.fileno()
        web = f"web=fd://{fd}"
        command = [sys.executable, "-S", str(ACCEPT_LOOP), "$(circus.sockets.web)"]
        line = ("--fd-socket", web, "-w", "4", "--", *command)
        with running(*line, cwd=tmp_path, pass_fds=(fd,)) as server:
            server.allow("ended by SIGKILL.*restarting")
            name = Path(sys.executable).name
            pids = {f"{name}[{wid}]": server.started(f"{name}[{wid}]") for wid in (1, 2, 3, 4)}
            load = Load(address)
            load.start()
            load.first.wait(10)
            before = descriptors(server.pid)
            delays = []
            for number in range(kills):
                slot = f"{name}[{number % 4 + 1}]"
                begun = time.monotonic()
                os.kill(pids[slot], signal.SIGKILL)
                pids[slot] = server.started(slot)
                delays.append(time.monotonic() - begun)
            load.stop()

            assert load.answered
            assert load.failed <= kills
            assert sorted(delays)[kills // 2] < 0.4, "a supervisor that looks twice in a second takes longer"
            eventually(lambda: descriptors(server.pid) <= before)
            eventually(lambda: not [each for each in relations() if each.parent == server.pid and each.is_dead])
            assert {each.pid for each in server.children()} == set(pids.values())


class Load(threading.Thread):
    """A client that asks and asks, a new connection each time."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.address = address
        self.answered = self.failed = 0
        self.first = threading.Event()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with socket.create_connection(self.address, timeout=10) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    good = b"hello" in client.makefile("rb").read()
            except OSError:
                good = False
            self.answered += good
            self.failed += not good
            self.first.set()

    def stop(self) -> None:
        self._over.set()
        self.join()


def test_what_cannot_run_is_retried_with_growing_pauses_and_then_given_up_while_others_run(tmp_path: Path) -> None:
    config = """
[watcher:bad]
cmd = sh -c "exit 3"
max_retry = 3
backoff = 0.05
[watcher:good]
cmd = sleep 1000
"""
    with running(cwd=tmp_path, config=config) as server:
        server.allow("bad.* given up after")
        good = server.started("good[1]")
        server.rewound()  # while the good one was started, the bad one may have died already
        server.expect(r"bad\[1\] pid \d+ exited with code 3 after .*; restart in 0.05 s \(1 of 3\)")
        server.expect(r"bad\[1\] pid \d+ exited with code 3 after .*; restart in 0.1 s \(2 of 3\)")
        server.expect(r"bad\[1\] pid \d+ exited with code 3 .* given up after 3 failed starts.*forkservectl start bad")

        assert [each.pid for each in server.children()] == [good]


def test_when_nothing_can_run_forkserve_gives_up_with_code_70_and_the_reason(tmp_path: Path) -> None:
    config = "[watcher:bad]\ncmd = false\nmax_retry = 2\nbackoff = 0.01\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("bad.* given up after", "giving up")
        server.expect(r"nothing is left to run, giving up: bad\[1\] pid \d+ exited with code 1")

        assert server.wait() == 70


def test_a_command_that_does_not_exist_is_given_up_without_a_retry(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[watcher:bad]\ncmd = no-such-program\n") as server:
        server.allow("no-such-program")
        server.expect(r"bad\[1\] command 'no-such-program' not found .*given up")

        assert server.wait() == 70


def test_a_machine_short_of_descriptors_is_waited_for_and_no_program_is_given_up(tmp_path: Path) -> None:
    config = "[watcher:a]\ncmd = sleep 1000\nmax_retry = 1\nbackoff = 0.05\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("restart")
        pid = server.started("a[1]")
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (descriptors(server.pid), limits[1]))
        os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            server.expect(r"a\[1\] .*Too many open files; restart in 0.05 s")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)

        server.started("a[1]")


def test_respawn_off_lets_a_process_end_for_good(tmp_path: Path) -> None:
    config = "[watcher:job]\ncmd = true\nrespawn = False\n[watcher:a]\ncmd = sleep 1000\n"
    with running(cwd=tmp_path, config=config) as server:
        server.expect_all(r"job\[1\] pid \d+ exited with code 0 .*not to be restarted", r"a\[1\] pid \d+ started")
        a = server.rewound().started("a[1]")

        assert [each.pid for each in server.children()] == [a]


def test_a_process_is_replaced_when_it_has_reached_its_age_the_new_one_first(tmp_path: Path) -> None:
    config = "[watcher:a]\ncmd = sleep 1000\nnumprocesses = 2\nmax_age = 0.3\nmax_age_variance = 0\nready_after = 0.1\n"
    with running(cwd=tmp_path, config=config) as server:
        first = server.started("a[1]")
        server.expect(rf"a\[1\] pid {first} is .* old \(max_age\): replacing it")
        second = server.started("a[1]")
        server.expect(rf"a\[1\] pid {first} was ended by SIGTERM")

        assert second != first


def test_a_single_process_that_has_reached_its_age_goes_before_the_next_one_comes(tmp_path: Path) -> None:
    config = "[watcher:a]\ncmd = sleep 1000\nsingleton = True\nmax_age = 0.3\nmax_age_variance = 0\n"
    with running(cwd=tmp_path, config=config) as server:
        first = server.started("a[1]")
        server.expect(rf"a\[1\] pid {first} is .* old \(max_age\): replacing it")
        server.expect(rf"a\[1\] pid {first} was ended by SIGTERM .*; its successor starts")

        second = server.started("a[1]")
        assert second != first
        text = server.transcript().partition(f"pid {second} started")[0]
        assert (text.count(" started: "), text.count("successor starts")) == (1, 1)


def test_a_writer_of_logs_or_a_guard_that_dies_is_replaced(tmp_path: Path) -> None:
    config = "[watcher:a]\ncmd = sleep 1000\nstdout_stream.filename = a.log\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("has died")
        server.started("a[1]")

        def companions() -> set[int]:
            ours = {each.pid for each in relations() if each.parent == server.pid}
            return ours - {each.pid for each in server.children()}

        eventually(lambda: len(companions()) == 2)
        for pid in companions():
            os.kill(pid, signal.SIGKILL)
        server.expect_all("the guard .* has died", "the log writer .* has died")

        eventually(lambda: len({each.pid for each in relations() if each.parent == server.pid}) == 3)


def test_the_master_sleeps_when_nothing_happens(tmp_path: Path) -> None:
    config = "[circus]\nloglevel = debug\n[watcher:a]\ncmd = sleep 1000\nready_after = 0.1\n"
    with running(cwd=tmp_path, config=config) as server:
        server.expect("is ready after")
        eventually(lambda: _state(server.pid) == "S")
        woken = _switches(server.pid)
        _let_pass(0.7)

        assert _switches(server.pid) - woken <= 1


def _let_pass(seconds: float) -> None:
    """Let time pass in which nothing shall happen: there is no event to wait for."""
    threading.Event().wait(seconds)


def _state(pid: int) -> str:
    return next(each.state for each in relations() if each.pid == pid)


def _switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_ordered_stop_exits_with_0(tmp_path: Path, signum: int) -> None:
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.started("a[1]")

        assert server.stop(signum) == 0
