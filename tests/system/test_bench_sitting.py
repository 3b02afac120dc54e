"""A run of the comparison that was cut off is taken up where it was, if machine and programs are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.harness import pinning, sitting, store
from bench.harness.context import Bench
from bench.harness.guard import end_all
from bench.harness.model import BenchError, Cell, Settings
from bench.harness.rounds import Job
from bench.harness.scenarios import SCENARIOS

JOBS = [Job(SCENARIOS["start-up"], Cell("start-up", "1 worker", "honest"), number, 1.0) for number in range(3)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    harness = Bench(Settings(quick=True, duration=1), pinning.here())
    yield harness
    harness.close()
    assert end_all(harness.guard.sessions, harness.guard.token) == []


def cut(bench: Bench, folder: Path) -> store.Results:
    """Measure one of the three and leave what a killed run leaves."""
    begun = sitting.begin(bench, JOBS, folder, "bench/run.sh")
    assert sitting.measure(bench, replace(begun, jobs=JOBS[:1])) == 0
    (folder / "results.json").unlink()
    with (folder / "results.jsonl").open("a") as lines:
        lines.write('{"scenario": "start-')
    return quiet(folder)


def quiet(folder: Path) -> store.Results:
    """Read results as if nobody else had kept the machine busy: other tests do, and such rounds are measured again."""
    results = store.load(folder)
    results.measurements = [replace(measurement, noise=0.0) for measurement in results.measurements]
    return results


def test_it_goes_on_with_what_is_left_and_keeps_what_there_is(bench: Bench, tmp_path: Path) -> None:
    earlier = cut(bench, tmp_path)
    assert (len(earlier.measurements), earlier.complete) == (1, False)
    again = sitting.take_up(bench, JOBS, earlier, tmp_path)
    assert [job.round for job in again.jobs] == [1, 2]
    assert sitting.measure(bench, again) == 0
    whole = quiet(tmp_path)
    assert whole.complete
    assert [measurement.round for measurement in whole.measurements] == [0, 1, 2]
    assert whole.measurements[0] == earlier.measurements[0]
    assert (whole.started, len(whole.settings["resumed"])) == (earlier.started, 1)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 4
    with pytest.raises(BenchError, match="nothing is left to be measured"):
        sitting.take_up(bench, JOBS, whole, tmp_path)


def test_it_is_refused_where_the_figures_would_not_belong_together(bench: Bench, tmp_path: Path) -> None:
    cut(bench, tmp_path)
    file = tmp_path / "results.jsonl"
    head, *lines = file.read_text().splitlines(keepends=True)
    other = json.loads(head)
    other["machine"]["versions"]["wrk"] = "3.0"
    file.write_text("".join([json.dumps(other) + "\n", *lines]))
    with pytest.raises(BenchError, match=r"cannot go on with .*: wrk 3\.0 -> "):
        sitting.take_up(bench, JOBS, store.load(tmp_path), tmp_path)
    assert store.load(tmp_path).machine["versions"]["wrk"] == "3.0"
