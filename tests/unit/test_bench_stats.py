"""The statistics of the comparison: medians, spreads, ratios within rounds, and the order of the rounds."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from bench.harness.model import Cell, Measurement, Settings, Status
from bench.harness.pinning import divide
from bench.harness.rounds import Job, interleave, plan, still_to_do
from bench.harness.scenarios import SCENARIOS, chosen
from bench.harness.scenarios.crowds import spread
from bench.harness.servers import SERVERS
from bench.harness.stats import percentile, ratio_within_rounds, stat


def test_a_median_comes_with_its_spread() -> None:
    found = stat([90.0, 100.0, 110.0])
    assert (found.median, found.low, found.high, found.count) == (100.0, 90.0, 110.0, 3)
    assert found.spread == pytest.approx(0.1)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        stat([])


def test_a_ratio_is_taken_within_each_round_so_that_a_drifting_machine_does_not_show() -> None:
    mine, base = {0: 200.0, 1: 100.0, 2: 50.0}, {0: 100.0, 1: 50.0, 2: 25.0}
    found = ratio_within_rounds(mine, base)
    assert found is not None
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)


def test_rounds_that_one_side_lacks_do_not_count() -> None:
    found = ratio_within_rounds({0: 3.0, 1: 5.0}, {1: 5.0, 2: 1.0})
    assert found is not None
    assert (found.median, found.count) == (1.0, 1)
    assert ratio_within_rounds({0: 1.0}, {0: 0.0}) is None


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 100.0
    assert percentile([7.0], 0.5) == 7.0


def test_rounds_are_interleaved_within_a_variant() -> None:
    cells = [Cell("s", variant, server) for variant in ("x", "y") for server in "ABC"]
    order = [(number, cell.variant + cell.server) for number, cell in interleave(cells, 2)]
    first = [(0, "xA"), (0, "xB"), (0, "xC"), (1, "xA"), (1, "xB"), (1, "xC")]
    assert order[:6] == first
    assert [text for _, text in order[6:]] == ["yA", "yB", "yC", "yA", "yB", "yC"]


def measured(job: Job, status: Status = Status.OK, noise: float = 0.0) -> Measurement:
    cell = job.cell
    return Measurement(cell.scenario, cell.variant, cell.server, job.round, status, 0.0, 1.0, noise=noise)


JOBS = [
    Job(SCENARIOS["wsgi-hello"], Cell("wsgi-hello", "", server), number, 1.0) for number in (0, 1) for server in "ABC"
]


def test_a_run_that_was_cut_goes_on_with_the_first_round_that_is_not_whole() -> None:
    jobs, kept = still_to_do(JOBS, [measured(job) for job in JOBS[:5]])
    assert (jobs, kept) == (JOBS[3:], [measured(job) for job in JOBS[:3]])
    assert still_to_do(JOBS, [measured(job) for job in JOBS]) == ([], [measured(job) for job in JOBS])
    assert still_to_do(JOBS, []) == (JOBS, [])


def test_a_server_that_failed_is_not_tried_again_when_the_run_goes_on() -> None:
    first = [measured(JOBS[0]), measured(JOBS[1], Status.FAILED), measured(JOBS[2])]
    assert still_to_do(JOBS, first) == ([JOBS[3], JOBS[5]], first)


def test_a_server_that_failed_in_the_round_that_is_measured_again_gets_its_chance() -> None:
    second = [*(measured(job) for job in JOBS[:3]), measured(JOBS[3], Status.FAILED)]
    assert still_to_do(JOBS, second) == (JOBS[3:], second[:3])


def test_a_round_in_which_others_kept_the_machine_busy_is_measured_again() -> None:
    run = [measured(job, noise=0.4 if job is JOBS[1] else 0.2) for job in JOBS]
    assert still_to_do(JOBS, run) == (JOBS[:3], run[3:])


def test_settings_come_back_from_a_results_file() -> None:
    settings = Settings(rounds=2, full=True, servers=("granian-wsgi",))
    assert Settings.from_json(json.loads(json.dumps(asdict(settings) | {"command": "bench/run.sh"}))) == settings
    with pytest.raises(KeyError):
        Settings.from_json({})


def test_the_full_set_takes_two_and_a_half_hours_as_help_says() -> None:
    settings = Settings(full=True)
    assert 2.4 * 3600 < sum(job.seconds for job in plan(chosen(settings), settings)) < 2.6 * 3600


def test_a_full_queue_is_measured_with_both_signals_but_in_the_short_set() -> None:
    def variants(settings: Settings) -> set[str]:
        return {job.cell.variant for job in plan(chosen(settings), settings) if job.cell.scenario == "full-queue"}

    assert variants(Settings(full=True)) == variants(Settings(scenarios=("full-queue",))) == {"TERM", "QUIT"}
    assert variants(Settings()) == {"TERM"}


def test_the_short_set_fits_into_ten_minutes_with_one_left_for_the_report_and_a_slow_machine() -> None:
    settings = Settings()
    assert sum(job.seconds for job in plan(chosen(settings), settings)) < 540


def test_every_scenario_names_servers_that_exist_and_a_baseline_that_takes_part() -> None:
    settings = Settings(full=True)
    for scenario in SCENARIOS.values():
        cells = scenario.cells(settings)
        assert cells, scenario.name
        for cell in cells:
            assert cell.server in SERVERS
            assert scenario.base_of(cell.variant, cell.server) in {
                other.server for other in cells if other.variant == cell.variant
            }


def test_the_machines_limit_is_part_of_every_run() -> None:
    settings = Settings(scenarios=("idle",), servers=("waitress",))
    assert plan(chosen(settings), settings)[0].cell.server == "nginx"


@pytest.mark.parametrize(
    ("cores", "siblings", "server", "client"),
    [
        ([0, 1], {0: 0, 1: 1}, (0,), (1,)),
        ([0, 1, 2, 3], {0: 0, 1: 1, 2: 2, 3: 3}, (0, 1, 2), (3,)),
        ([0, 1, 2, 3], {0: 0, 1: 1, 2: 0, 3: 1}, (0,), (1,)),
        ([0, 1], {0: 0, 1: 0}, (0,), (1,)),
    ],
)
def test_server_and_client_never_share_a_core(
    cores: list[int], siblings: dict[int, int], server: tuple[int, ...], client: tuple[int, ...]
) -> None:
    pins = divide(cores, siblings)
    assert (pins.server, pins.client, pins.shared) == (server, client, False)


def test_one_core_is_shared_and_the_report_says_so() -> None:
    pins = divide([5], {})
    assert pins.shared
    assert "disturb" in pins.describe()


def test_workers_that_never_answer_count_as_workers_without_connections() -> None:
    assert spread([16, 16], 4) == (16.0, 2.0)
    assert spread([8, 8, 8, 8], 4) == (0.0, 0.0)
