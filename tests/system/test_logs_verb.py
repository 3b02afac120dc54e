"""`forkservectl logs` at a real master: what processes write is kept, shown and followed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.forkserving import Forkserve, eventually, running

TALK = """echo $FORKSERVE_WID here
printf '\\033[2Jlate\\n' >&2
while read -r line < pipe$FORKSERVE_WID; do echo "$line"; done
"""
CONFIG = """
[watcher:talk]
cmd = sh talk.sh
numprocesses = 2
ready_after = 0.05
logs_kept = 8K
stdout_stream.filename = out.log
[watcher:plain]
cmd = sleep 1000
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Forkserve]:
    (tmp_path / "talk.sh").write_text(TALK)
    for wid in "12":  # of two readers of one, each could get a part of the line
        os.mkfifo(tmp_path / f"pipe{wid}")
    with running("--control", "c.sock", cwd=tmp_path, config=CONFIG) as server:
        server.expect_all("here|late", "late")  # stderr of an uncaptured stream is still the master's
        yield server


def command(folder: Path, *argv: str) -> list[str]:
    return [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(folder / "c.sock"), *argv]


def ctl(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return commands.ctl(folder, "--socket", "c.sock", *argv)


def test_output_is_kept_shown_and_followed(server: Forkserve, tmp_path: Path) -> None:
    eventually(lambda: ctl(tmp_path, "logs").stdout.count("\n") == 4)
    assert sorted(ctl(tmp_path, "logs", "talk").stdout.splitlines()) == [
        "talk[1] | 1 here",
        "talk[1] | \\x1b[2Jlate",
        "talk[2] | 2 here",
        "talk[2] | \\x1b[2Jlate",
    ]
    assert ctl(tmp_path, "logs", "-n1", "--raw", "talk[2]").stdout in ("2 here\n", "\x1b[2Jlate\n")
    assert sorted((tmp_path / "out.log").read_text().splitlines()) == ["1 here", "2 here"]
    with subprocess.Popen(command(tmp_path, "logs", "-f", "talk"), stdout=-1, stderr=-1, text=True) as follower:
        assert follower.stdout is not None and follower.stderr is not None
        assert all(" | " in follower.stdout.readline() for _ in range(4))
        (tmp_path / "pipe1").write_text("more\n")
        told = follower.stdout.readline()
        assert told.endswith("] | more\n")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 130
        assert follower.stderr.read() == ""


@pytest.mark.parametrize("verb", ["logs", "events"])
def test_what_is_followed_ends_with_its_reader_though_nothing_more_comes(
    server: Forkserve, tmp_path: Path, verb: str
) -> None:
    with subprocess.Popen(command(tmp_path, verb, "-f", "-n1", "talk"), stdout=-1, stderr=-1, text=True) as follower:
        assert follower.stdout is not None and follower.stderr is not None
        assert follower.stdout.readline()
        follower.stdout.close()
        assert (follower.wait(20), follower.stderr.read()) == (0, "")


def test_what_is_not_captured_is_said(server: Forkserve, tmp_path: Path) -> None:
    done = ctl(tmp_path, "logs", "plain")
    assert done.returncode == 1
    assert "plain: nothing is captured" in done.stderr
    assert "logs_kept = 64K" in done.stderr
    done = ctl(tmp_path, "logs", "talk[9]")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "forkservectl: no output of talk[9] is kept\n"
    done = ctl(tmp_path, "logs", "tlk")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no watcher 'tlk'; did you mean 'talk'?" in done.stderr


def test_those_who_follow_are_told_the_end(server: Forkserve, tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path, "logs", "-f", "talk"), stdout=-1, stderr=-1, text=True) as follower:
        assert follower.stdout is not None
        assert "talk[" in follower.stdout.readline()
        assert server.stop() == 0
        _, errors = follower.communicate(timeout=20)
        assert "no more output comes" in errors
        assert follower.returncode == 1


SCRIPT = """read -r _ < go
printf '%017000d\\n' 7
printf begun; sleep 1; echo ' and ended'
sleep 1; echo late >&2
exec sleep 1000
"""
PLAIN = """
[circus]
capture = on
[watcher:plain]
cmd = sh plain.sh
[watcher:quiet]
cmd = sh -c 'echo through; exec sleep 1000'
logs_kept = 0
"""


def test_what_no_stream_captures_is_kept_and_passed_on_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "plain.sh").write_text(SCRIPT)
    os.mkfifo(tmp_path / "go")
    with running("--control", "c.sock", cwd=tmp_path, config=PLAIN) as server:
        server.expect_all(r"plain\[1\] pid \d+ started", r"quiet\[1\] pid \d+ started", "^through$")
        (tmp_path / "go").write_text("\n")  # a write of over 4 KiB is not atomic: pipe(7)
        server.expect_all("^0{16999}7$", "^begun and ended$", "^late$")  # 16 KiB is where others are cut
        eventually(lambda: ctl(tmp_path, "logs", "plain", "-n", "1").stdout == "plain[1] | late\n")
        assert "plain[1] | begun" in ctl(tmp_path, "logs", "plain", "-n", "3").stdout
        refused = ctl(tmp_path, "logs", "quiet")
        assert (refused.returncode, "`capture = on`" in refused.stderr) == (1, True)
        assert server.stop() == 0
