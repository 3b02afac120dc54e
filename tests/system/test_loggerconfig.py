"""The master's log as a file for Python's `logging` says, written by a program beside the master."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from forkserve.config.loggerconfig import fault_of
from forkserve.supervision.os.proc import children_of
from tests.support.forkserving import eventually, running

CONFIG = "[circus]\nloggerconfig = {}\n[watcher:web]\ncmd = sleep 1000\nready_after = 0.05\n"
INI = """
[loggers]
keys = root, forkserve
[handlers]
keys = file
[formatters]
keys = short
[logger_root]
level = NOTSET
handlers =
[logger_forkserve]
level = INFO
qualname = forkserve
handlers = file
[handler_file]
class = FileHandler
formatter = short
args = ("my.log",)
[formatter_short]
format = %(levelname)s|%(name)s|%(message)s
"""


def _dict(logger: str) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"short": {"format": "%(levelname)s|%(name)s|%(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": "my.log", "formatter": "short"}},
        "loggers": {logger: {"level": "INFO", "handlers": ["file"]}},
    }


@pytest.mark.parametrize(("name", "logger"), [("log.json", "circus"), ("log.ini", "forkserve")])
def test_the_log_goes_where_the_file_says_to_its_last_line(tmp_path: Path, name: str, logger: str) -> None:
    (tmp_path / name).write_text(json.dumps(_dict(logger)) if name.endswith("json") else INI)
    log = tmp_path / "my.log"
    with running(cwd=tmp_path, config=CONFIG.format(name)) as master:
        eventually(lambda: log.exists() and "started" in log.read_text())
        (program,) = [each for each in children_of(master.pid) if _title(each.pid).startswith("forkserve: log program")]
        os.kill(program.pid, signal.SIGKILL)
        eventually(lambda: "log program" in log.read_text())  # by the next one
        assert master.stop() == 0

    lines = log.read_text().splitlines()
    assert lines[0].startswith(f"INFO|{logger}.master|forkserve ")
    assert lines[-1] == f"INFO|{logger}.master|stopped"


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def test_a_class_that_cannot_be_had_costs_no_line(tmp_path: Path) -> None:
    wrong = _dict("forkserve")
    wrong["handlers"]["file"]["class"] = "nosuch.Handler"
    (tmp_path / "log.json").write_text(json.dumps(wrong))
    with running(cwd=tmp_path, config=CONFIG.format("log.json")) as master:
        master.expect("loggerconfig .*log.json: .*nosuch.*; the log goes to standard error")
        master.rewound().started("web[1]")  # another program has said the line above
        assert master.stop() == 0


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("log.json", '{"version": 1}', ""),
        ("log.json", "{", "no JSON"),
        ("log.json", "[]", "expected a mapping with version: 1"),
        ("log.ini", INI, ""),
        ("log.ini", "[loggers]\nkeys = root\n", "no section [handlers]"),
        ("log.ini", "keys = root", "no section headers"),
        ("log.conf", None, "No such file"),
    ],
)
def test_a_file_that_configures_nothing_is_told(tmp_path: Path, name: str, text: str | None, fault: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    found = fault_of(str(path))
    assert fault in found
    assert bool(found) == bool(fault)
