"""The command ends in one line where it cannot go on, and one server that fails is one row."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.harness import pinning
from bench.harness.context import Bench
from bench.harness.model import BenchError, Cell, Sample, Settings, Status
from bench.harness.rounds import Job, run
from bench.harness.scenarios.base import Scenario, Timed

ROOT = Path(__file__).parents[2]
LISTED = [sys.executable, "-u", "-m", "bench", "--list"]
WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from bench.harness.command import main
sys.exit(main(sys.argv[1:]))
"""
RESULTS = """{"format": 1, "started": "", "complete": true, "machine": {}, "settings": {}, "measurements": []}"""


class Failing(Scenario):
    """Fails with what it was given, and measures the next server."""

    name = title = question = "failing"
    metrics = ()
    servers = ("honest", "slow")

    def __init__(self, error: BaseException) -> None:
        """Keep the error."""
        self.error = error

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Take no time."""
        return 0.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Fail for the first server."""
        if cell.server == "honest":
            raise self.error
        return Sample({}), "command"


def rows(error: BaseException) -> list[tuple[str, Status, str]]:
    """Return what a run of two servers notes, the first of which fails so."""
    bench = Bench(Settings(quick=True), pinning.here())
    found: list[tuple[str, Status, str]] = []
    try:
        scenario = Failing(error)
        jobs = [Job(scenario, cell, 0, 0.0) for cell in scenario.cells(bench.settings)]
        run(jobs, bench, lambda _, made: found.append((made.server, made.status, made.note)))
    finally:
        bench.close()
    return found


def test_a_run_that_is_over_adopts_no_orphans_any_more() -> None:
    flag = ctypes.c_int()
    Bench(Settings(quick=True), pinning.here()).close()
    assert ctypes.CDLL(None).prctl(37, ctypes.byref(flag), 0, 0, 0) == 0  # PR_GET_CHILD_SUBREAPER
    assert not flag.value


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (BenchError("no worker answered"), "no worker answered"),
        (ExceptionGroup("tasks", [BenchError("no worker answered")]), "no worker answered"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [ConnectionResetError("reset")])]), "reset"),
        (ExceptionGroup("tasks", [BenchError("the first"), TimeoutError()]), "the first"),
        (TimeoutError(), "TimeoutError"),
        (psutil.NoSuchProcess(7, msg="gone"), "gone (pid=7)"),
        (subprocess.TimeoutExpired("forkservectl", 5), "Command 'forkservectl' timed out after 5 seconds"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_server_that_fails_is_a_row_also_from_within_a_task_group(error: BaseException, note: str) -> None:
    assert rows(error) == [("honest", Status.FAILED, note), ("slow", Status.OK, "")]


@pytest.mark.parametrize("error", [KeyboardInterrupt("SIGTERM"), ZeroDivisionError("a bug")])
def test_a_signal_and_a_bug_end_the_run(error: BaseException) -> None:
    with pytest.raises(type(error), match=str(error)):
        rows(error)


@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_nobody_reads_any_more_is_no_traceback(buffered: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [word for word in LISTED if word != "-u" or not buffered]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120
        )
    finally:
        os.close(writing)
    assert (done.stderr, done.returncode) == ("", 1)


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_without_matplotlib_nothing_is_measured(tmp_path: Path, option: str) -> None:
    (tmp_path / "results.json").write_text(RESULTS)
    done = subprocess.run(
        [sys.executable, "-u", "-c", WITHOUT_MATPLOTLIB, option, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bench: the report needs matplotlib: ")
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]
