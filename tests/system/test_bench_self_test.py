"""The harness of the comparison sees servers that are slow, lose requests, go mute or answer wrongly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.harness import pinning
from bench.harness.clients import Crowd, Plan, run_for
from bench.harness.context import Bench
from bench.harness.guard import end_all
from bench.harness.model import BenchError, Settings
from bench.harness.probe import Outcome, Request
from bench.harness.selftest import FAULTS, ROWS, examine, judge


@pytest.fixture
def bench() -> Iterator[Bench]:
    harness = Bench(Settings(quick=True, duration=1), pinning.here())
    yield harness
    harness.close()
    assert end_all(harness.guard.sessions, harness.guard.token) == []


@pytest.mark.parametrize("server", [name for name in FAULTS if name != "slow"])
def test_each_fault_is_seen_by_its_name(server: str, bench: Bench) -> None:
    errors = examine(server, bench, timed=False).errors
    fault = FAULTS[server]
    assert errors == {} if fault is None else errors[str(fault)] > 0


@pytest.mark.parametrize(
    "row", [row if row == "streams" else pytest.param(row, marks=pytest.mark.slow) for row in ROWS]
)
@pytest.mark.parametrize("server", ["good", "bad"])
def test_a_row_tells_a_good_server_from_a_bad_one(row: str, server: str, bench: Bench) -> None:
    right, seen = judge(row, server, bench)
    assert right, seen


def test_a_slow_server_is_measured_as_slow(bench: Bench) -> None:
    launch = bench.launch("")
    with bench.ready("slow", launch, Request()):
        crowd = Crowd(launch, Plan(Request(), 4))
        run_for(0.3, crowd)
    assert set(crowd.outcomes) == {Outcome.OK}
    assert min(crowd.latencies) >= 0.02


def test_a_server_that_cannot_start_is_reported_with_its_last_words(bench: Bench) -> None:
    launch = bench.launch("no_such_module:app")
    with (
        pytest.raises(BenchError, match=r"status 1 at start: .*ModuleNotFoundError|not installed"),
        bench.ready("waitress", launch, Request()),
    ):
        pass
