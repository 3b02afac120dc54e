"""`forkservectl top` at a real master: a page where the output is no terminal, a screen where it is one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, running
from tests.support.terminal import Terminal

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
    with Terminal(command(tmp_path, "--interval", "0.2"), rows=24, columns=80, TERM="dumb") as terminal:
        terminal.until(b"TERM=dumb cannot be drawn on: one page, without keys")
        terminal.until(b"good[2]")
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.seen


def test_a_screen_takes_keys_and_another_size_and_leaves_the_terminal_as_it_was(
    server: Forkserve, tmp_path: Path
) -> None:
    with Terminal(command(tmp_path, "--interval", "0.3"), rows=24, columns=80) as terminal:
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
        with Terminal(command(tmp_path), rows=24, columns=80, NO_COLOR="1") as terminal:
            terminal.until(b"good[1]")
            terminal.process.send_signal(signum)
            assert terminal.end() == code
            assert b"\x1b[?1049l" in terminal.seen
