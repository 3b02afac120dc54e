"""`forkservectl top` at a real master: a page where the output is no terminal, a screen where it is one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, running

CONFIG = """
[watcher:good]
cmd = sleep 1000
ready_after = 0.05
numprocesses = 2
[watcher:bad]
cmd = sh -c "exit 4"
max_retry = 0
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Forkserve]:
    with running("--control", "c.sock", cwd=tmp_path, config=CONFIG) as server:
        server.allow("given up")
        server.expect_all("bad.* given up", r"good\[2\] pid")
        yield server


def command(folder: Path, *argv: str) -> list[str]:
    return [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(folder / "c.sock"), "top", *argv]


class Terminal:
    """A terminal of a size, and a program that has it as its own."""

    def __init__(self, argv: list[str], *, rows: int, columns: int, **env: str) -> None:
        self._reader, terminal = pty.openpty()
        self.resize(rows, columns)
        variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", **env}
        self.process = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=variables)
        os.close(terminal)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._reader, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._reader, keys)

    def until(self, text: bytes) -> None:
        """Read until a text has come since the last one."""
        while text not in self.seen:
            assert select.select([self._reader], [], [], 20)[0], self.seen
            self.seen += os.read(self._reader, 65536)
        self.seen = self.seen.partition(text)[2]

    def end(self) -> int:
        """Read the rest, and return the exit code."""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
            while piece := os.read(self._reader, 65536):
                self.seen += piece
        os.close(self._reader)
        return self.process.wait(20)


def test_a_page_is_printed_where_nobody_can_press_keys(server: Forkserve, tmp_path: Path) -> None:
    argv = command(tmp_path, "--interval", "0.2")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith("forkserve ")
    assert lines[3].split()[:3] == ["NAME", "STATE", "PID"]
    assert lines[4].split()[:3] == ["good", "active", "2/2"]
    assert any(line.startswith("    exited with code 4") for line in lines)
    assert max(map(len, lines)) <= 80
    terminal = Terminal(command(tmp_path, "--interval", "0.2"), rows=24, columns=80, TERM="dumb")
    terminal.until(b"TERM=dumb cannot be drawn on: one page, without keys")
    terminal.until(b"good[2]")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.seen


def test_a_screen_takes_keys_and_another_size_and_leaves_the_terminal_as_it_was(
    server: Forkserve, tmp_path: Path
) -> None:
    terminal = Terminal(command(tmp_path, "--interval", "0.3"), rows=24, columns=80)
    terminal.until(b"good[2]")
    terminal.press(b"h")
    terminal.until(b"Keys and columns")
    terminal.press(b"x")
    terminal.resize(50, 200)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.until(b"REASON")
    terminal.press(b"q")
    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.seen  # rmcup of terminfo(5)

    for signum, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        terminal = Terminal(command(tmp_path), rows=24, columns=80, NO_COLOR="1")
        terminal.until(b"good[1]")
        terminal.process.send_signal(signum)
        assert terminal.end() == code
        assert b"\x1b[?1049l" in terminal.seen
