"""The report: nothing that failed is left out, and forkserve's losses are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.harness import markdown, page
from bench.harness.comparison import compare, differences
from bench.harness.document import Grid, compose, grid_of
from bench.harness.glance import lines
from bench.harness.goals import GOALS, Finding, judge
from bench.harness.model import BenchError, Measurement, Settings, Status
from bench.harness.progress import left
from bench.harness.report import terminal
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
    assert "rate of forkserve-sync / nginx | >= 0.9 | 0.75 | - | MISSED" in text
    assert {goal.scenario for goal in GOALS} <= set(SCENARIOS)
    servers = {server for goal in GOALS for server in (goal.ours, *goal.theirs)}
    assert servers <= set(SERVERS)
    for goal in GOALS:
        assert goal.variant in SCENARIOS[goal.scenario].variants(Settings(full=True)), goal.describe()
        assert goal.metric in {metric.name for metric in SCENARIOS[goal.scenario].metrics}
        present = {c.server for c in SCENARIOS[goal.scenario].cells(Settings(full=True)) if c.variant == goal.variant}
        assert {goal.ours, *goal.theirs} <= present, goal.describe()


def finding(of: str, *measurements: Measurement) -> Finding:
    return next(found for found in judge(measurements) if found.goal.describe() == of)


def test_a_goal_that_was_not_measured_says_so() -> None:
    assert len(judge(RUN)) == len(GOALS)
    found = finding("websocket: rate of forkserve-asgi / uvicorn", *RUN)
    assert (found.found, found.verdict) == (None, "not measured")


def test_a_goal_against_several_is_judged_by_the_best_of_them_and_names_who_is_lacking() -> None:
    found = finding(
        "frameworks, Flask JSON: rate of forkserve-sync / the best of "
        "gunicorn-sync, gunicorn-gthread, gunicorn-gevent, granian-wsgi",
        *(replace(m, scenario="frameworks", variant="Flask JSON") for m in RUN),
        replace(measured("granian-wsgi", [200.0])[0], scenario="frameworks", variant="Flask JSON"),
        replace(failed("gunicorn-sync", "ended"), scenario="frameworks", variant="Flask JSON"),
    )
    assert found.rival == "granian-wsgi"
    assert found.found is not None
    assert found.found.median == 1.5
    assert found.verdict == "met; gunicorn-sync failed; without gunicorn-gevent"


def test_a_client_at_its_limit_is_said_beside_the_ratio_of_cpu_time() -> None:
    nginx, ours = (
        replace(measured(server, [rate])[0], values={"rate": rate, "cpu_us": cpu, "client_cpu": share})
        for server, rate, cpu, share in (("nginx", 100.0, 6.0, 1.0), ("forkserve-sync", 95.0, 12.0, 0.8))
    )
    found = finding("wsgi-hello: rate of forkserve-sync / nginx", nginx, ours)
    assert found.by_cpu is not None
    assert (found.by_cpu.median, found.verdict) == (0.5, "met; client at its limit with nginx")


def test_a_difference_is_taken_within_rounds() -> None:
    ours, theirs = (
        Measurement("idle", "", server, 0, Status.OK, 0.0, 1.0, {"worker_mib": size})
        for server, size in (("forkserve-sync", 27.0), ("gunicorn-sync", 21.0))
    )
    found = finding("idle: worker_mib of forkserve-sync - gunicorn-sync", ours, theirs)
    assert found.found is not None
    assert (found.found.median, found.verdict) == (6.0, "MISSED")


def test_a_server_compared_with_itself_is_divided_by_its_own_row_and_is_no_race() -> None:
    halves = [
        replace(measured(server, [rate])[0], scenario="access-log", variant="WSGI")
        for server, rate in (("granian-wsgi", 400.0), ("forkserve-sync", 100.0), ("forkserve-sync+log", 90.0))
    ]
    found = tables(halves, SCENARIOS)
    ratios = {row.server: row.ratio.median for row in found[0].rows if row.ratio}
    assert ratios == {"granian-wsgi": 1.0, "forkserve-sync": 1.0, "forkserve-sync+log": 0.9}
    assert losses(found) == []


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


def test_a_comparison_says_what_else_has_changed() -> None:
    before = Results({"cores": 2, "versions": {"granian": "2.8.6", "wrk": "4.1"}}, {"rounds": 3}, started="yesterday")
    now = Results({"cores": 4, "versions": {"granian": "2.8.7", "wrk": "4.1"}}, {"rounds": 3})
    assert differences(now, before) == ["cores 2 -> 4", "granian 2.8.6 -> 2.8.7"]


def test_a_run_of_several_sittings_says_so() -> None:
    results = Results({}, {"command": "bench/run.sh --full", "resumed": ["2 May", "3 May"]}, RUN, started="1 May")
    text = markdown.render(compose(results, [table()], []), "plots")
    assert "Measured by `bench/run.sh --full` on 1 May, resumed on 2 May, resumed on 3 May" in text


def test_a_disturbed_machine_is_said_at_the_top() -> None:
    text = markdown.render(compose(Results({}, {}, RUN), [replace(table(), noise=0.4)], []), "plots")
    assert "disturbed: 1 of 1 tables" in text.partition("## How to read this")[0]


def test_a_narrow_terminal_keeps_the_ratio_and_the_errors() -> None:
    wide, narrow = terminal([table()]).splitlines(), terminal([table()], 80).splitlines()
    assert max(map(len, narrow)) <= 80 < max(map(len, wide))
    assert "x gunicorn-gthread" in narrow[2]
    assert [line.rsplit("  ", 1)[-1].strip() for line in narrow[2:]] == [
        "errors", "0", "6 wrong body", "0", "0", "FAILED"
    ]  # fmt: skip


def test_times_left_are_written_for_people() -> None:
    assert [left(5.2), left(65), left(3599.6)] == ["5 s", "1 min 05 s", "60 min 00 s"]


def test_a_glance_divides_our_best_by_gunicorns_and_by_the_fields_within_rounds() -> None:
    (line,) = lines([table()])
    ((gunicorn,), (best,)) = line.gunicorn, line.field
    assert (gunicorn.theirs.server, gunicorn.lead) == ("gunicorn-gthread", 30.0)
    assert (best.theirs.server, round(best.lead, 2)) == ("bjoern", 0.86)
    text = markdown.render(compose(Results({}, {}, RUN), [table()], []), "plots")
    assert "| WSGI hello world | requests (/s) ↑ | 30.00 | 0.86 | bjoern |" in text


def test_a_glance_names_the_least_favourable_table_and_turns_what_is_better_lower_round() -> None:
    times = [
        Measurement("start-up", f"{workers}", server, 0, Status.OK, 0.0, 1.0, {"ready_ms": ms})
        for workers, server, ms in (
            *(("1 worker", "forkserve-sync", 200.0), ("1 worker", "uwsgi", 100.0)),
            *(("4 workers", "forkserve-sync", 200.0), ("4 workers", "uwsgi", 300.0)),
        )
    ]
    (line,) = lines(tables(times, SCENARIOS))
    assert [(duel.table.variant, duel.lead) for duel in line.field] == [("1 worker", 0.5), ("4 workers", 1.5)]
    assert line.gunicorn == ()
    text = markdown.render(compose(Results({}, {}, times), tables(times, SCENARIOS), []), "plots")
    assert "| Start-up | first answer after (ms) ↓ | - | 0.50 to 1.50 | uwsgi, 1 worker |" in text
