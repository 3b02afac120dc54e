"""Captured output goes to a class of the user's, which runs apart from everything else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from forkserve.logwriter.classes import record
from forkserve.sidecars.stream import records
from tests.support.forkserving import eventually, running

CLASSES = """
import json, os

class Noted:
    def __init__(self, filename, mark="none"):
        self.filename, self.mark = filename, mark

    def open(self):
        self.file = open(self.filename, "a")

    def __call__(self, line):
        line = {**line, "data": line["data"].decode(), "mark": self.mark}
        if "fail" in line["data"]:
            raise ValueError("no such line")
        if "die" in line["data"]:
            os._exit(1)
        self.file.write(json.dumps(line) + "\\n")
        self.file.flush()

    def close(self):
        self.file.write('"closed"\\n')
        self.file.close()
"""


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_class_gets_each_line_with_its_process_and_is_closed_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mystreams.py").write_text(CLASSES)
    config = f"""
[watcher:web]
cmd = sh -c 'echo one; echo fail; echo two >&2; exec sleep 1000'
ready_after = 0.05
stdout_stream.class = mystreams.Noted
stdout_stream.filename = {tmp_path}/noted
stdout_stream.mark = x y
stderr_stream.class = mystreams.Noted
stderr_stream.filename = {tmp_path}/noted
stderr_stream.mark = x y
[watcher:broken]
cmd = sh -c 'echo lost; exec sleep 1000'
ready_after = 0.05
stdout_stream.class = mystreams.Nothing
[env:*]
PYTHONPATH = {tmp_path}/lib
"""
    noted = tmp_path / "noted"
    with running(cwd=tmp_path, config=config) as master:
        master.allow("forkserve.streams", "Traceback")
        pid = master.started("web[1]")
        eventually(lambda: len(_lines(noted)) >= 2)
        master.rewound().expect("the stream mystreams.Nothing cannot be created, its lines are lost")
        master.rewound().expect("the stream mystreams.Noted has failed at a line, which is lost")
        assert master.stop() == 0

    *lines, closed = _lines(noted)
    assert sorted(lines, key=lambda each: str(each["name"]), reverse=True) == [
        {"data": "one\n", "pid": pid, "name": "stdout", "mark": "x y"},
        {"data": "two\n", "pid": pid, "name": "stderr", "mark": "x y"},
    ]
    assert closed == "closed"


def test_a_class_that_ends_its_process_costs_its_own_stream(tmp_path: Path) -> None:
    (tmp_path / "mystreams.py").write_text(CLASSES)
    config = f"""
[watcher:web]
cmd = sh -c 'echo die; exec sleep 1000'
ready_after = 0.05
stdout_stream.class = mystreams.Noted
stdout_stream.filename = {tmp_path}/noted
[watcher:other]
cmd = sh -c 'echo kept; exec sleep 1000'
ready_after = 0.05
stdout_stream.filename = {tmp_path}/other
"""
    with running(cwd=tmp_path, config=config) as master:
        master.started("web[1]")
        eventually(lambda: (tmp_path / "other").exists() and "kept" in (tmp_path / "other").read_text())
        assert master.stop() == 0
        assert not [line for line in master.lines if "log writer" in line]


def test_records_are_read_as_they_were_written_and_strange_lines_pass() -> None:
    sent = record(7, is_stderr=False, line=b"a b") + b"forkserve: 3 lines dropped here\n"
    sent += record(8, is_stderr=True, line=b"")
    assert list(records(io.BytesIO(sent))) == [
        {"data": b"a b\n", "pid": 7, "name": "stdout"},
        {"data": b"forkserve: 3 lines dropped here\n", "pid": 0, "name": "stderr"},
        {"data": b"\n", "pid": 8, "name": "stderr"},
    ]
