"""The `forkserve` command, as far as it runs nothing: check, options, help, and what it says to mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def forkserve(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forkserve", *argv]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


def test_check_accepts_a_good_file_and_prints_its_warnings(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[circus]\nfqdn_prefix = here\n[watcher:a]\ncmd = sleep 1\n")
    done = forkserve("check", "a.ini", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.ini: fine (0 sockets, 1 watcher)\n")
    reason = "never had an effect in Circus either, ignored"
    assert done.stderr == f"forkserve: warning: a.ini:2 [circus] fqdn_prefix: {reason}\n"


def test_check_reports_all_errors_at_once_and_exits_78(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[watcher:a]\nnumprocesses = x\n[watcher:b]\ncmd = sleep $(circus.sockets.web)\n")
    done = forkserve("check", "a.ini", cwd=tmp_path)
    assert done.returncode == 78
    assert [line for line in done.stderr.splitlines() if "error" in line] == [
        "forkserve: error: a.ini:1 [watcher:a]: cmd is missing: give the command to run",
        "forkserve: error: a.ini:2 [watcher:a] numprocesses: expected an integer, got 'x'",
        "forkserve: error: a.ini:4 [watcher:b] cmd: unknown socket 'web'; no socket is configured",
    ]


def test_a_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = forkserve("check", "none.ini", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "forkserve: error: none.ini: cannot be read: No such file or directory\n"


def test_a_file_that_is_not_text_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_bytes(b"[circus]\n\xff\xfe\n")
    done = forkserve("check", "a.ini", cwd=tmp_path)
    assert done.stderr == "forkserve: error: a.ini:2: is not UTF-8 text\n"


@pytest.mark.parametrize("argv", [["--help"], ["check", "--help"], ["options", "-h"]])
def test_help_fits_the_narrowest_terminal(tmp_path: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = forkserve(*argv, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: forkserve")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("argv", [["check"], ["check", "a", "b"], ["options", "a", "b"], ["--no-such-flag"], []])
def test_wrong_usage_is_one_line_and_exit_code_2(argv: list[str], tmp_path: Path) -> None:
    done = forkserve(*argv, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("forkserve: error: ")
    assert done.stderr.count("\n") == 1


def test_options_prints_the_reference(tmp_path: Path) -> None:
    done = forkserve("options", cwd=tmp_path)
    assert done.returncode == 0
    assert "[watcher:NAME], [watcher.NAME] in TOML: a command and its processes" in done.stdout
    assert forkserve("options", "--threads", cwd=tmp_path).stdout.startswith("threads\n")


def test_help_and_version_exit_0(tmp_path: Path) -> None:
    assert "--fd-socket NAME=ADDRESS" in forkserve("--help", cwd=tmp_path).stdout
    assert forkserve("--version", cwd=tmp_path).stdout.startswith("forkserve ")


@pytest.mark.parametrize("name", ["serve.toml", "stack/circus.ini"])
def test_the_examples_pass_the_check(name: str) -> None:
    file = Path(__file__).parent.parent.parent / "examples" / name
    done = forkserve("check", file.name, cwd=file.parent)
    assert done.returncode == 0, done.stderr
