"""Completion in the shells of the system, and the shell that forkservectl is by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.cli.completion import SCRIPTS
from tests.support.forkserving import Forkserve, running
from tests.support.terminal import Terminal

CONFIG = """
[watcher:web]
cmd = sleep 1000
ready_after = 0.05
[watcher:worker-mail]
cmd = sleep 1000
ready_after = 0.05
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Forkserve]:
    with running("--control", "c.sock", cwd=tmp_path, config=CONFIG) as server:
        server.started("worker-mail[1]")
        yield server


@pytest.fixture
def bin(tmp_path: Path) -> Path:
    """A folder with a forkservectl of this Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "forkservectl").write_text(f'#!/bin/sh\nexec {sys.executable} -m forkserve.cli.ctl "$@"\n')
    (folder / "forkservectl").chmod(0o755)
    return folder


def completed(bin: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of the words."""
    typed = " ".join(f"'{each}'" for each in ("forkservectl", *words))
    script = f'eval "$(forkservectl completion bash)"\nCOMP_WORDS=({typed})\nCOMP_CWORD={len(words)}\n'
    script += 'compopt() { echo "compopt $*"; }\n_forkservectl\n'
    script += '(( ${#COMPREPLY[@]} )) && echo "${COMPREPLY[*]}"\n'
    script += "complete -p forkservectl >&2\n"
    env = {"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(bin)}
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env=env, cwd=bin.parent, capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr == "complete -F _forkservectl forkservectl\n"
    return done.stdout.split()


def test_bash_completes_verbs_names_options_and_files(server: Forkserve, bin: Path) -> None:
    assert completed(bin, "reop") == ["reopenlogs"]
    assert completed(bin, "--socket", "c.sock", "reload", "w") == ["web", "worker-mail"]
    assert completed(bin, "--socket", "c.sock", "set", "web", "numprocesses_mi") == [
        "compopt",
        "-o",
        "nospace",
        "numprocesses_min=",
    ]
    assert completed(bin, "maintenance", "on", "") == ["compopt", "-o", "default"]
    assert completed(bin, "--socket", "no.sock", "reload", "w") == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_that_its_shell_can_read(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(SCRIPTS[shell])
    done = subprocess.run(
        [shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_fish_completes_names(server: Forkserve, bin: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    (bin / "script").write_text(SCRIPTS["fish"])
    script = f"source {bin}/script; complete -C 'forkservectl --socket c.sock reload wor'"
    env = {"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(bin)}
    done = subprocess.run(
        ["fish", "-c", script], env=env, cwd=bin.parent, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.split() == ["worker-mail"]


def test_the_shell_completes_goes_on_after_ctrl_c_and_keeps_a_private_history(
    server: Forkserve, tmp_path: Path
) -> None:
    argv = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(tmp_path / "c.sock")]
    with Terminal(argv, rows=24, columns=80, HOME=str(tmp_path), INPUTRC="/dev/null") as terminal:
        terminal.until(b"forkservectl> ")
        terminal.press(b"status wor\t\r")
        terminal.until(b"status worker-mail")
        terminal.until(b"ready")
        terminal.until(b"forkservectl> ")
        terminal.press(b"stop web")
        terminal.until(b"stop web")
        terminal.interrupt()
        terminal.until(b"forkservectl> ")
        terminal.press(b"quit\r")
        terminal.until(b"leaves this shell. Go on? y/n ")
        terminal.press(b"n\r")
        terminal.until(b"forkservectl> ")
        terminal.press(b"nonsense\r")
        terminal.until(b"there is no verb 'nonsense'")
        terminal.until(b"forkservectl> ")
        terminal.press(b"numwatchers\r")
        terminal.until(b"2\r\n")
        terminal.until(b"forkservectl> ")
        terminal.press(b"\x04")
        assert terminal.end() == 0
    history = tmp_path / ".local/state/forkserve/history"
    assert history.read_text().splitlines() == ["status worker-mail ", "quit", "nonsense", "numwatchers"]
    assert history.stat().st_mode & 0o777 == 0o600
    assert history.parent.stat().st_mode & 0o777 == 0o700


def test_the_shell_reads_lines_of_a_file(server: Forkserve, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(tmp_path / "c.sock"), "shell"]
    lines = "addsocket api port=0\nrmsocket api\n"
    lines += "numwatchers  # a comment\n\nlist web extra\nnumprocesses web\nstatus nowhere\n"
    done = subprocess.run(argv, input=lines, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.splitlines()[2:] == ["2", "1"]
    assert "api" in done.stdout.splitlines()[0] and "api" in done.stdout.splitlines()[1]
    assert "unrecognized arguments: extra" in done.stderr
    assert "no watcher 'nowhere'" in done.stderr
    assert done.returncode == 1


def test_the_answer_to_reloadconfig_names_what_only_a_restart_takes_over(server: Forkserve, tmp_path: Path) -> None:
    (tmp_path / "stack.ini").write_text(f"[circus]\nendpoint = ipc://{tmp_path}/e\nloglevel = debug\n{CONFIG}")
    argv = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(tmp_path / "c.sock"), "reloadconfig"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "reloaded; a restart of forkserve is needed for endpoint\n"
    assert done.returncode == 0
