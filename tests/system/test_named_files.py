"""A file that a user names may be a FIFO, a device, or huge by mistake: it is refused in one line, and at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE

FOLDER = Path(sys.executable).parent
SITE = "def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n"
HERE = ["--bind", "127.0.0.1:0", "site_n:app"]
IRREGULAR = "it is not a regular file"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    (folder / "site_n.py").write_text(SITE)
    for name in ("fifo.ini", "fifo.pem", "fifo.py"):
        os.mkfifo(folder / name)
    with (folder / "huge.ini").open("wb") as file:
        file.truncate(17 << 20)
    (folder / "includes.ini").write_text("[circus]\ninclude = fifo.ini\n[watcher:a]\ncmd = sleep 1\n")
    (folder / "old-mac.ini").write_bytes(b"\xef\xbb\xbf[watcher:a]\rcmd = sleep 1\r\n")
    return folder


def ended(folder: Path, program: str, *words: str) -> tuple[int, str]:
    """Return the exit code of a command, and what it said without the log."""
    done = subprocess.run(
        [FOLDER / program, *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, said[0].partition(": error: ")[2]


@pytest.mark.parametrize("start", [("check",), ("-c",)])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fifo.ini", IRREGULAR),
        ("/dev/zero", IRREGULAR),
        ("/dev/stdin", IRREGULAR),
        ("huge.ini", "it has more than 16 MiB"),
        (".", "Is a directory"),
    ],
)
def test_a_configuration_is_a_regular_file_of_sensible_size(
    folder: Path, start: tuple[str, ...], name: str, reason: str
) -> None:
    assert ended(folder, "forkserve", *start, name) == (78, f"{name}: cannot be read: {reason}")


def test_so_is_what_it_includes_and_what_forkservectl_is_told_of(folder: Path) -> None:
    assert ended(folder, "forkserve", "check", "includes.ini") == (
        78,
        f"fifo.ini: cannot be read: {IRREGULAR}",
    )
    code, said = ended(folder, "forkservectl", "-c", "fifo.ini", "status")
    assert code == 1
    assert said.startswith("no forkserve runs fifo.ini")


def test_other_line_ends_and_a_byte_order_mark_are_read(folder: Path) -> None:
    done = subprocess.run(
        [FOLDER / "forkserve", "check", "old-mac.ini"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "old-mac.ini: fine (0 sockets, 1 watcher)\n")


@pytest.mark.parametrize(
    ("program", "words", "code", "said"),
    [
        ("forkserve", ["-c", "fifo.py"], 2, "fifo.py is a configuration of Gunicorn"),
        ("forkserve", ["--pid", "fifo.pem", *HERE], 78, f"pidfile fifo.pem: {IRREGULAR}"),
        ("forkserve", ["--log-file", "fifo.pem", *HERE], 2, "--log-file fifo.pem: nobody reads from it"),
        ("forkserve", ["--error-logfile", "/none/x", *HERE], 2, "argument --error-logfile: no such directory: /none"),
        ("forkserve-worker", ["--certfile", "fifo.pem", *HERE], 2, f"--certfile fifo.pem: {IRREGULAR}"),
        ("forkserve-worker", ["--ssl-certfile", "/dev/zero", *HERE], 2, f"--ssl-certfile /dev/zero: {IRREGULAR}"),
        ("forkserve-worker", ["--error-logfile", "/none/x", *HERE], 2, "--error-logfile /none/x: No such file"),
        ("forkserve-worker", ["--access-logfile", "fifo.pem", *HERE], 2, "--access-logfile fifo.pem: nobody reads"),
        ("forkserve-worker", ["--timeout-keep-alive", "x", *HERE], 2, "--timeout-keep-alive: expected a duration"),
        ("forkserve-worker", ["--static", "/x=fifo.pem", *HERE], 2, "--static /x=fifo.pem: no such directory"),
        ("forkserve-worker", ["--access-logformat", "%(z)s", *HERE], 2, "--access-logformat: unknown atom"),
        (
            "forkserve",
            ["--access-logformat", "%(z)s", "--check-config", *HERE[2:]],
            78,
            "command line [watcher:web] cmd: --access-logformat: unknown atom",
        ),
    ],
)
def test_other_files_and_formats_are_refused_at_the_start_by_the_flag_that_was_typed(
    folder: Path, program: str, words: list[str], code: int, said: str
) -> None:
    got, line = ended(folder, program, *words)
    assert line.startswith(said)
    assert got == code
