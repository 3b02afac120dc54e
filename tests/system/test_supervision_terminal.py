"""Signals as a terminal, a shell or a careless parent leaves them, and standard descriptors that are closed or full."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import TIMEOUT, eventually, running

SLEEPER = ("--control", "none", "--name", "x", "-n", "a", "--")


class Terminal:
    """A master whose controlling terminal is ours; `said` is what it has written there."""

    def __init__(self, argv: tuple[str, ...], cwd: Path, *, background: bool = False) -> None:
        self.said = ""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                if background:
                    self._become_a_background_job()
                os.execv(sys.executable, [sys.executable, "-m", "forkserve", "--control", "none", *argv])
            finally:
                os._exit(127)

    @staticmethod
    def _become_a_background_job() -> None:
        """As `stty tostop; forkserve &`: the shell, our parent, stays in the foreground."""
        modes = termios.tcgetattr(0)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(0, termios.TCSANOW, modes)
        child = os.fork()
        if child:
            signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os.setpgid(0, 0)

    def expect(self, text: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no {text!r} in {self.said}"
            self.said += os.read(self.master, 65536).decode()

    def wait(self) -> int:
        with contextlib.suppress(OSError):  # EIO: nobody has the other side open any more
            while data := os.read(self.master, 65536):
                self.said += data.decode()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextlib.contextmanager
def terminal(*argv: str, cwd: Path, background: bool = False) -> Iterator[Terminal]:
    made = Terminal(argv, cwd, background=background)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(made.pid, signal.SIGKILL)
            os.waitpid(made.pid, 0)
        os.close(made.master)


WEB = ("--fd-socket", "web=127.0.0.1:0", "--", "sh", "-c", ": $(circus.sockets.web); exec sleep 1000")


def test_a_window_that_changes_its_size_stops_nothing(tmp_path: Path) -> None:
    with terminal("--log-level", "debug", *WEB, cwd=tmp_path) as made:
        made.expect("is ready")
        os.kill(made.pid, signal.SIGWINCH)
        made.expect("ignored at a terminal")
        os.kill(made.pid, signal.SIGTERM)

        assert made.wait() == 0
        assert made.said.count("started: sh") == 1


def test_without_a_terminal_winch_means_what_it_means_to_nginx(tmp_path: Path) -> None:
    with running(*WEB, cwd=tmp_path) as server:
        pid = server.started("sh[1]")
        server.send(signal.SIGWINCH)
        server.expect(rf"sh\[1\] pid {pid} was ended by SIGTERM")
        server.send(signal.SIGHUP)
        server.started("sh[1]")


def test_a_background_job_writes_to_its_terminal_under_tostop(tmp_path: Path) -> None:
    with terminal("--log-level", "debug", "--", "sleep", "1000", cwd=tmp_path, background=True) as made:
        made.expect("sleep[1]")
        made.expect("is ready")
        os.kill(made.pid, signal.SIGTERM)

        assert made.wait() == 0
        assert "SIGTTOU" not in made.said


def test_signals_that_a_parent_has_left_blocked_are_heard_and_children_get_none_blocked(tmp_path: Path) -> None:
    blocked = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        config = "[watcher:a]\ncmd = sh -c 'grep SigBlk /proc/self/status; exec sleep 1000'\n"
        with running(cwd=tmp_path, config=config) as server:
            server.allow("ended by SIGKILL.*restarting")
            pid = server.started("a[1]")
            server.rewound().expect("SigBlk:\t0000000000000000")  # it may say so before the master has
            os.kill(pid, signal.SIGKILL)
            server.started("a[1]")
            server.send(signal.SIGHUP)
            server.expect("configuration read again")

            assert server.stop(signal.SIGTERM) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)], ids=str)
def test_standard_descriptors_may_be_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    redirections = " ".join(f"{fd}>&-" if fd else "<&-" for fd in closed)
    (tmp_path / "touch.sh").write_text("echo out; echo err >&2; touch up; exec sleep 1000\n")
    line = f"exec {sys.executable} -m forkserve --control none -- sh touch.sh {redirections}"
    with subprocess.Popen(["/bin/sh", "-c", line], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        eventually(lambda: (tmp_path / "up").exists() or process.poll() is not None)
        process.terminate()
        said = process.communicate(timeout=TIMEOUT)[0]

    assert process.returncode == 0
    assert said in (b"", b"out\n")
