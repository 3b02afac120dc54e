"""The report: nothing that failed is left out, and forkserve's losses are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.harness import markdown, page
from bench.harness.comparison import compare
from bench.harness.document import Grid, compose, grid_of
from bench.harness.goals import GOALS
from bench.harness.model import BenchError, Measurement, Settings, Status
from bench.harness.progress import left
from bench.harness.scenarios import SCENARIOS
from bench.harness.servers import SERVERS
from bench.harness.store import Results, Store, load
from bench.harness.summary import Table, losses, tables


def measured(server: str, rates: list[float], **fields: object) -> list[Measurement]:
    return [
        Measurement("wsgi-hello", "", server, number, Status.OK, 0.0, 1.0, {"rate": rate}, **fields)  # type: ignore[arg-type]
        for number, rate in enumerate(rates)
    ]


def failed(server: str, why: str) -> Measurement:
    return Measurement("wsgi-hello", "", server, 0, Status.FAILED, 0.0, 1.0, note=why)


RUN = [
    *measured("nginx", [400.0, 200.0, 400.0]),
    *measured("gunicorn-gthread", [10.0, 5.0, 10.0]),
    *measured("forkserve-sync", [300.0, 150.0, 310.0]),
    *measured("bjoern", [350.0, 175.0, 350.0], errors={"wrong body": 2}),
    failed("uwsgi", "ended with status 1 at start"),
]


def table() -> Table:
    return tables(RUN, SCENARIOS)[0]


def test_servers_are_ranked_and_failed_ones_stay_in_the_table() -> None:
    assert [row.server for row in table().rows] == ["nginx", "bjoern", "forkserve-sync", "gunicorn-gthread", "uwsgi"]
    assert table().rows[-1].failed


def test_ratios_stand_beside_the_figure() -> None:
    ours = table().rows[2]
    assert ours.ratio is not None
    assert ours.of_limit is not None
    assert (ours.ratio.median, ours.of_limit.median) == (30.0, 0.75)


def test_errors_are_added_up_over_the_rounds() -> None:
    assert table().rows[1].errors == {"wrong body": 6}
    assert grid_of(table()).rows[1][-1] == "6 wrong body"
    assert grid_of(table()).rows[-1][-1] == "FAILED"


def test_where_forkserve_loses_is_said_and_the_limit_is_no_competitor() -> None:
    steady = [*measured("nginx", [400.0]), *measured("bjoern", [350.0]), *measured("forkserve-sync", [300.0])]
    found = tables(steady, SCENARIOS)
    assert [(loss.ours.server, loss.theirs.server, loss.metric.name) for loss in losses(found)] == [
        ("forkserve-sync", "bjoern", "rate")
    ]
    text = markdown.render(compose(Results({}, {}, steady), found, []), "plots")
    assert "bjoern 350, forkserve-sync 300" in text


def test_a_lead_within_the_spread_is_no_loss() -> None:
    assert losses([table()]) == []


def test_goals_are_judged_and_a_missed_one_is_said() -> None:
    text = markdown.render(compose(Results({}, {}, RUN), [table()], []), "plots")
    assert "rate of forkserve-sync / nginx >= 0.9 | 0.75 | MISSED" in text
    assert {goal.scenario for goal in GOALS} <= set(SCENARIOS)
    servers = {server for goal in GOALS for server in (goal.ours, goal.theirs) if server}
    assert servers <= set(SERVERS)
    for goal in GOALS:
        assert goal.variant in SCENARIOS[goal.scenario].variants(Settings(full=True)), goal.describe()
        assert goal.metric in {metric.name for metric in SCENARIOS[goal.scenario].metrics}


def test_both_renderings_hold_every_server_and_the_reason_of_a_failure(tmp_path: Path) -> None:
    blocks = compose(Results({"processor": "<cpu>"}, {}, RUN), [table()], [])
    for text in (markdown.render(blocks, "plots"), page.render(blocks, tmp_path)):
        assert all(row.server in text for row in table().rows)
        assert "uwsgi: ended with status 1 at start" in text
        assert "cut off" in text
    assert "&lt;cpu&gt;" in page.render(blocks, tmp_path)


def test_a_run_that_was_killed_can_be_read_from_its_lines(tmp_path: Path) -> None:
    store = Store(tmp_path, Results({"cores": 2}, {"rounds": 3}, started="today"))
    for measurement in RUN:
        store.add(measurement)
    kept = load(tmp_path)
    assert (kept.measurements, kept.complete, kept.machine) == (RUN, False, {"cores": 2})
    store.close(complete=True)
    assert load(tmp_path / "results.json").complete


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(BenchError, match="not a results file"):
        load(tmp_path / "x.json")


def test_a_comparison_tells_a_change_from_noise() -> None:
    before = [
        *measured("nginx", [400.0]),
        *measured("gunicorn-gthread", [10.0]),
        *measured("forkserve-sync", [100.0, 320.0]),
    ]
    later = [*measured("nginx", [400.0]), *measured("gunicorn-gthread", [20.0]), *measured("forkserve-sync", [300.0])]
    _, grid = compare(tables(later, SCENARIOS), tables(before, SCENARIOS))
    assert isinstance(grid, Grid)
    verdicts = {row[1]: row[-1] for row in grid.rows}
    assert verdicts == {
        "nginx": "same within the spread",
        "gunicorn-gthread": "better",
        "forkserve-sync": "same within the spread",
    }


def test_times_left_are_written_for_people() -> None:
    assert [left(5.2), left(65), left(3599.6)] == ["5 s", "1 min 05 s", "60 min 00 s"]
