"""How the three commands end, whoever reads what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE

FOLDER = Path(sys.executable).parent


@pytest.mark.parametrize(
    "words",
    [
        ("forkserve", "--help"),
        ("forkserve", "options"),
        ("forkserve-worker", "--help"),
        ("forkserve-worker", "--list-backends"),
        ("forkservectl", "--help"),
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_no_traceback(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [FOLDER / words[0], *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writer)
    # argparse keeps quiet about a long help that nobody reads; a list says 1.
    assert (done.returncode, done.stderr) == (0 if "--help" in words else 1, "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("forkserve", "check"), 2),
        (("forkserve", "check", "nosuch.toml"), 78),
        (("forkserve-worker", "nosuch:app"), 3),
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
