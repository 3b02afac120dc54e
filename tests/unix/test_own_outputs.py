"""Which of the master's own outputs are captured on their way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.config.capture import captured_streams
from forkserve.config.masteroptions import Capture
from forkserve.config.streams import StreamClass, StreamOptions
from forkserve.logwriter.lines import CAP, LineSplitter
from forkserve.logwriter.protocol import Captured, captured_from
from tests.support.supervision import options

ASK = """
import os, sys
from forkserve.config.masteroptions import Capture
from forkserve.logwriter.own import own_outputs
environ = {}
if sys.argv[1] == "journal":
    found = os.fstat(1)
    environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
if sys.argv[1] == "closed":
    os.close(1)
found = own_outputs(Capture(sys.argv[2]), environ, detached=sys.argv[1] == "detached")
print(*found, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("place", "capture", "found"),
    [
        ("pipe", Capture.AUTO, ""),
        ("pipe", Capture.ON, "1 2"),
        ("journal", Capture.AUTO, "1"),
        ("journal", Capture.OFF, ""),
        ("detached", Capture.AUTO, "1 2"),
        ("closed", Capture.ON, "2"),
    ],
)
def test_output_that_a_manager_reads_is_captured(place: str, capture: Capture, found: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, place, capture.value], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr.strip() == found


def test_output_to_a_file_is_captured(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", ASK, "file", "auto"], stdout=log, stderr=log, timeout=30, check=True)
    assert (tmp_path / "log").read_text() == "1 2\n"


def test_a_terminal_is_left_to_the_processes() -> None:
    master, slave = os.openpty()
    try:
        process = subprocess.Popen([sys.executable, "-c", ASK, "detached", "auto"], stdout=slave, stderr=-1, text=True)
        assert process.communicate(timeout=30)[1].strip() == "2"
    finally:
        os.close(master)
        os.close(slave)


def test_streams_and_what_is_turned_off_stay_as_they_are() -> None:
    file = StreamOptions(filename="/tmp/x")
    stdout, stderr = captured_streams(options(stdout_stream=file), own=(1, 2))
    assert stdout == file
    assert stderr == StreamOptions(kind=StreamClass.STDERR, as_it_is=True)
    assert captured_streams(options(logs_kept=0), own=(1, 2)) == (None, None)
    assert captured_streams(options(redirect_stderr=True), own=(1, 2))[1] is None
    assert captured_streams(options(close_child_stdout=True), own=(1,)) == (None, None)


def test_a_writer_of_older_code_gets_no_word_that_it_does_not_know() -> None:
    plain = Captured("web[1]", 5, False, StreamOptions(filename="x"))
    assert "as_it_is" not in plain.facts()["options"]
    passed = Captured("web[1]", 5, False, StreamOptions(kind=StreamClass.STDOUT, as_it_is=True))
    assert captured_from(passed.facts()) == passed


def test_a_long_line_is_not_cut_where_bytes_are_passed_on() -> None:
    splitter = LineSplitter(float("inf"))
    assert splitter.feed(b"a\n" + b"x" * CAP) == [b"a"]
    assert splitter.is_long
    assert splitter.feed(b"y\nz") == [b"x" * CAP + b"y"]
    assert not splitter.is_long
    assert splitter.end() == [b"z"]
