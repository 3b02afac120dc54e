"""The fuzzers notice what they are there for, and say how to have it again."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.contained import Note, contained
from tests.fuzz.conversations import conversation
from tests.fuzz.sanitize import Sanitized

ROOT = Path(__file__).parents[2]
APP = """
import os, sys

def dies(environ, start):
    if environ["REQUEST_METHOD"] == "DELETE":
        os._exit(7)
    return right(environ, start)

def fails(environ, start):
    if environ["REQUEST_METHOD"] == "DELETE":
        raise ValueError("a fault of the application")
    return right(environ, start)

last = ""

def leaks(environ, start):
    global last
    answer, last = last, environ.get("HTTP_X_TOKEN", "")
    start("200 OK", [])
    return [(answer or last).encode() + b'"/k" good']

def right(environ, start):
    start("200 OK", [])
    return [b'"/k" good']
"""


def fuzz(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("dies", "the worker has ended with status 7"),
        ("fails", "the worker has logged a traceback"),
        ("leaks", "a client received what is another's"),
    ],
)
def test_a_worker_that_dies_fails_or_mixes_up_clients_is_told_with_the_seed(
    app: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "broken_app.py").write_text(APP)
    words = ("workers", "--backend", "sync", "--seconds", "10", "--seed", "1", "--app", f"broken_app:{app}")
    done = fuzz(*words, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"BROKEN: worker of sync, seed 1: {told}" in done.stdout


def test_a_conversation_is_made_of_its_seed_and_number_alone() -> None:
    for number in range(50):
        assert conversation(3, number, sockets=True) == conversation(3, number, sockets=True)
    assert conversation(3, 1, sockets=True) != conversation(4, 1, sockets=True)


def test_one_conversation_can_be_had_by_itself() -> None:
    done = fuzz("workers", "--backend", "asgi", "--seed", "1", "--number", "7", folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "workers: asgi: " in done.stdout


def test_all_targets_run_and_find_nothing() -> None:
    done = fuzz("parsers", "compiled", "--seconds", "0.5", "--seed", "1", folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_target_is_one_line_of_error() -> None:
    done = fuzz("parser", folder=ROOT)
    assert done.returncode == 2
    assert "no such target: parser" in done.stderr


def test_an_input_that_kills_the_process_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    def dies(note: Note) -> int:
        note(b"harmless")
        note(b"the end\r\n")
        faulthandler.disable()  # of pytest, which would put a dump into the output of the suite
        os.abort()

    assert contained(dies) == 1
    told = capfd.readouterr().out
    assert r"BROKEN by b'the end\r\n'" in told
    assert "SIGABRT" in told


FAULTS = """
#include <limits.h>
#include <stdlib.h>

int beyond(int at) { char *room = malloc(8); int found = room[at]; free(room); return found; }
int overflow(int value) { return value + INT_MAX; }
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "told"), [("beyond(9)", "in beyond"), ("overflow(9)", "in overflow"), ("overflow(0)", "")]
)
def test_what_a_sanitizer_sees_in_any_process_is_found_at_the_end(call: str, told: str, tmp_path: Path) -> None:
    built = Sanitized(tmp_path, stacks=True)
    built.tree.mkdir()
    built.reports.mkdir()
    (tmp_path / "faults.c").write_text(FAULTS)
    built.compile([tmp_path / "faults.c"], tmp_path / "faults.so")
    # In a grandchild whose end nobody looks at.
    code = f"import ctypes; ctypes.CDLL({str(tmp_path / 'faults.so')!r}).{call}"
    status = built.run(["-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"])
    assert status == 0
    found = built.found()
    assert len(found) == (1 if told else 0)
    assert told in "".join(found)
