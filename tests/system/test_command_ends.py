"""How the three commands end, whoever reads what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE

FOLDER = Path(sys.executable).parent
STACK = "[circus]\ncheck_delay = x\n[watcher:a]\ncmd = sleep 1\n"
UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
"""What a shell may have in PYTHONUNBUFFERED moves the moment at which a lost reader is noticed."""


def ended(
    words: tuple[str, ...], cwd: Path, *, stdout: int, stderr: int, environ: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it said, if stderr is a pipe."""
    done = subprocess.run(
        [FOLDER / words[0], *words[1:]],
        cwd=cwd,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stderr or ""


@UNBUFFERED
@pytest.mark.parametrize(
    "words",
    [
        ("forkserve", "--help"),
        ("forkserve", "--version"),
        ("forkserve", "options"),
        ("forkserve", "options", "--help"),
        ("forkserve", "options", "--markdown"),
        ("forkserve", "check", "--help"),
        ("forkserve", "check", "good.ini"),
        ("forkserve-worker", "--help"),
        ("forkserve-worker", "--list-backends"),
        ("forkserve-worker", "--list-backends", "--json"),
        ("forkserve-worker", "--check", "wsgiref.simple_server:demo_app"),
        ("forkservectl", "--help"),
        ("forkservectl", "status", "--help"),
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_no_failure(words: tuple[str, ...], unbuffered: str, tmp_path: Path) -> None:
    (tmp_path / "good.ini").write_text("[watcher:a]\ncmd = sleep 1\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        environ = {"PYTHONUNBUFFERED": unbuffered}
        code, said = ended(words, tmp_path, stdout=writer, stderr=subprocess.PIPE, environ=environ)
    finally:
        os.close(writer)
    assert (code, said) == (0, "")


@UNBUFFERED
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("forkserve", "check", "bad.ini"), 78),
        (("forkserve", "--nosuch"), 2),
        (("forkserve-worker", "-b", "127.0.0.1:0", "nosuch:app"), 3),
        (("forkservectl", "--socket", "nosuch.sock", "list"), 1),
    ],
    ids=str,
)
def test_nobody_reading_the_error_leaves_its_code(
    words: tuple[str, ...], code: int, unbuffered: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.ini").write_text(STACK)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        environ = {"PYTHONUNBUFFERED": unbuffered}
        assert ended(words, tmp_path, stdout=writer, stderr=writer, environ=environ) == (code, "")
    finally:
        os.close(writer)


@UNBUFFERED
@pytest.mark.parametrize(
    "words", [("forkserve", "options"), ("forkserve-worker", "--help"), ("forkservectl", "--help")], ids=" ".join
)
def test_a_full_disk_is_said_in_a_line(words: tuple[str, ...], unbuffered: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        environ = {"PYTHONUNBUFFERED": unbuffered}
        code, said = ended(words, tmp_path, stdout=full.fileno(), stderr=subprocess.PIPE, environ=environ)
    assert (code, said) == (1, f"{words[0]}: error: cannot write to standard output: No space left on device\n")


def test_a_terminal_without_the_letters_gets_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "wéb.ini").write_text("[watcher:a]\ncmd = sleep 1\n")
    done = subprocess.run(
        [FOLDER / "forkserve", "check", "wéb.ini"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"w\\xe9b.ini: fine (0 sockets, 1 watcher)\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("forkserve", "check"), 2),
        (("forkserve", "check", "nosuch.toml"), 78),
        (("forkserve-worker", "-b", "127.0.0.1:0", "nosuch:app"), 3),
        (("forkserve-worker", "--check", "nosuch:app"), 3),
        (("forkservectl", "--socket", "nosuch.sock", "list"), 1),
        (("forkservectl", "nosuch"), 2),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_that_bears_the_commands_name(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [FOLDER / words[0], *words[1:]],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith(f"{words[0]}: error: ")]
    assert (done.returncode, len(said), done.stdout) == (code, 1, ""), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('\\x1b]0;title\\x07\\x9b2J')",
        "raise SystemExit('\\x1b]0;title\\x07')",
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': '\\x1b]0;title\\x07\\x9b2J'})\n",
    ],
    ids=["raises", "exits", "lifespan"],
)
def test_what_an_application_says_moves_no_terminal(code: str, tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(code)
    words = [FOLDER / "forkserve-worker", "--bind", "127.0.0.1:0", "site_app:app"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode == 3
    assert "forkserve-worker: error: " in done.stderr
    assert "\\x1b]0;title\\x07" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("allowed", [5, 8, 10])  # with four, CPython 3.11 itself may not begin
def test_a_start_without_enough_descriptors_is_one_line(allowed: int, tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[socket:web]\nport = 0\n[watcher:a]\ncmd = sleep 1000\n")
    words = ["sh", "-c", f"ulimit -n {allowed}; exec {FOLDER}/forkserve -c a.ini --control control --pidfile pid"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    said = done.stderr.splitlines()[-1]
    assert said.startswith("forkserve: error: ") and "too many open files" in said.lower(), done.stderr
    assert done.returncode in (1, 69) and "Traceback" not in done.stderr
