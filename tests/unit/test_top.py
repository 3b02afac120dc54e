"""What `top` shows: two reports become figures and rows, rows lines of a page, keys another state. All of it pure."""

from __future__ import annotations

from typing import Any

import pytest

from forkserve.cli.top.page import HELP, page_lines, wrapped
from forkserve.cli.top.rows import SORTS, View, quantile, view_of
from forkserve.cli.top.state import Key, TopState, Wish, pressed

BOUNDS = [0.01, 0.1, 1.0]


def process(wid: int, pid: int, **facts: Any) -> dict[str, Any]:
    known = {"name": f"web[{wid}]", "wid": wid, "pid": pid, "state": "ready", "uptime": 60.0, "generation": 2}
    return {**known, "cpu": 10.0, "memory": 30 << 20, **facts}


def slot(wid: int, state: str = "filled", reason: str = "", retry_in: float | None = None) -> dict[str, Any]:
    return {"wid": wid, "state": state, "reason": reason, "retry_in": retry_in}


def report(at: float, requests: tuple[int, int], **facts: Any) -> dict[str, Any]:
    """Two workers that have answered so many requests, half of them within 10 ms, and a program that tells nothing."""
    total = sum(requests)
    web = {
        "name": "web",
        "state": "active",
        "numprocesses": 2,
        "restarts": 3,
        "reason": "",
        "generation": 2,
        "doing": "",
        "processes": [process(1, 101), process(2, 102, cpu=30.0, generation=1)],
        "slots": [slot(1), slot(2)],
    }
    db = {**web, "name": "db", "numprocesses": 1, "restarts": 0, "processes": [process(1, 201, name="db[1]")]}
    traffic = [
        {
            "name": "web",
            "requests": total,
            "errors": total // 10,
            "latency": [total // 2, total - total // 2, 0, 0],
            "shed": 0,
            "processes": [
                {"pid": 101, "connections": 4, "in_flight": 1, "requests": requests[0]},
                {"pid": 102, "connections": 2, "in_flight": 0, "requests": requests[1]},
            ],
            "slots": {"1": 0, "2": 3},
        },
        {"name": "db", "requests": 0, "errors": 0, "latency": [0] * 4, "shed": 0, "processes": [], "slots": {"1": 0}},
    ]
    queues = [{"name": "web", "address": "", "waiting": 5, "capacity": 128}]
    known = {"version": "1", "name": "shop", "source": "shop.ini", "pid": 9, "uptime": at, "bounds": BOUNDS}
    known |= {"watchers": [web, {**db, "slots": [slot(1)]}], "traffic": traffic, "queues": queues}
    return {"at": at, **known, "deploy": "web: replaced", "deploy_at": 1000.0, **facts}


def view(now: Any, before: Any = None, *, sort: str = "name", pss: dict[int, int] | None = None) -> View:
    return view_of(now, before, pss=pss or {}, sort=sort, wall=1060.0)


def test_a_timer_between_its_runs_is_scheduled() -> None:
    now = report(1.0, (1, 1))
    now["watchers"][1] |= {"timer": {"schedule": "@daily"}, "processes": [], "slots": []}
    assert {row.target: row.state for row in view(now).rows}["db"] == "scheduled"


def test_two_reports_make_rates_and_shares() -> None:
    found = view(report(12.0, (1200, 800)), report(10.0, (1000, 600)))
    summary, rows = found.summary, {row.target: row for row in found.rows}

    assert (summary.rate, summary.errors, summary.waiting, summary.in_flight) == (200.0, 0.1, 5, 1)
    assert summary.p50 == pytest.approx(0.01)
    assert summary.p99 == pytest.approx(0.01 + 0.09 * 0.98)
    assert summary.deploy_age == 60.0
    assert (rows["web"].rate, rows["web[1]"].rate, rows["web[2]"].rate) == (200.0, 100.0, 100.0)
    assert (rows["web"].connections, rows["web"].in_flight, rows["web"].cpu) == (6, 1, 40.0)
    assert (rows["web[2]"].generation, rows["web[2]"].restarts) == ("1 old", 3)
    assert (rows["db"].rate, rows["db[1]"].rate, rows["db[1]"].connections) == (None, None, None)


def test_one_report_has_no_rates() -> None:
    found = view(report(12.0, (1200, 800)))

    assert (found.summary.rate, found.summary.p99, found.summary.errors) == (None, None, None)
    assert [row.rate for row in found.rows] == [None] * 5


@pytest.mark.parametrize(
    "before",
    [report(10.0, (1000, 600), pid=8), report(12.0, (1000, 600)), report(13.0, (1000, 600))],
    ids=["another master", "at once", "a clock that went back"],
)
def test_reports_that_do_not_fit_make_no_rates(before: Any) -> None:
    found = view(report(12.0, (1200, 800)), before)

    assert (found.summary.rate, found.rows[0].rate) == (None, None)


def test_counts_that_fall_make_no_negative_figures() -> None:
    """A worker has been replaced under the same pid, or has written nonsense into its counters."""
    found = view(report(12.0, (5, 800)), report(10.0, (1000, 600)))

    assert found.summary.rate == 0.0
    assert [row.rate for row in found.rows[:3]] == [None, None, 100.0]


def test_pss_that_was_measured_before_is_used_and_summed_when_all_of_it_is_known() -> None:
    found = view(report(12.0, (0, 0)), pss={101: 5 << 20, 102: 6 << 20})
    assert [row.pss for row in found.rows] == [11 << 20, 5 << 20, 6 << 20, None, None]
    assert found.summary.pss is None
    assert found.summary.memory == 90 << 20
    assert view(report(12.0, (0, 0)), pss={101: 1, 102: 2, 201: 3}).summary.pss == 6


def test_rows_are_sorted_within_their_watchers_and_those_among_each_other() -> None:
    now, before = report(12.0, (1200, 900)), report(10.0, (1000, 600))
    assert [row.target for row in view(now, before, sort="requests").rows] == ["web", "web[2]", "web[1]", "db", "db[1]"]
    now["watchers"][1]["processes"][0]["cpu"] = 99.0
    assert [row.target for row in view(now, sort="cpu").rows] == ["db", "db[1]", "web", "web[2]", "web[1]"]
    for sort in SORTS:
        assert len(view(now, before, sort=sort).rows) == 5


def test_what_does_not_run_has_a_row_with_its_reason() -> None:
    now = report(12.0, (0, 0))
    now["watchers"][0]["processes"] = []
    now["watchers"][0]["slots"] = [slot(1, "fatal", "exited with code 3"), slot(2, "backoff", "exited", 4.2)]
    rows = view(now).rows[:3]

    assert [(row.target, row.state, row.pid) for row in rows[1:]] == [
        ("web[1]", "fatal", None),
        ("web[2]", "backoff", None),
    ]
    assert [row.reason for row in rows] == ["", "exited with code 3", "exited; next try in 4 s"]
    assert (rows[0].state, rows[0].cpu) == ("active 0/2", None)


def test_a_reload_that_goes_on_is_the_deploy_line() -> None:
    now = report(12.0, (0, 0))
    now["watchers"][0]["doing"] = "1 of 2 replaced"
    summary = view(now).summary

    assert (summary.deploy, summary.deploy_age) == ("web: 1 of 2 replaced", None)


@pytest.mark.parametrize("width", [20, 80, 119, 120, 200])
def test_no_line_is_wider_than_the_page(width: int) -> None:
    now = report(12.0, (123456, 78900), name="x" * 300, deploy="y" * 300)
    now["watchers"][0]["name"] = "a-watcher-with-a-name-that-is-far-too-long-for-any-table"
    now["watchers"][0]["processes"][0]["name"] = f"{now['watchers'][0]['name']}[1]"
    now["watchers"][0]["slots"].append(slot(3, "fatal", "z" * 300))
    lines = page_lines(view(now, report(10.0, (0, 0))), width)

    assert max(len(line.text) for line in lines) <= width
    assert len(lines) == 4 + 6 + (width < 120)
    assert width < 80 or any("…[1]" in line.text for line in lines)


def test_a_page_at_80_columns_and_a_wide_one() -> None:
    found = view(report(12.0, (1200, 800)), report(10.0, (1000, 600)))
    narrow, wide = page_lines(found, 80), page_lines(found, 200)

    assert narrow[1].text == "200.0 req/s  p50 10.0 ms  p99 98.2 ms  5xx 10.0%  queue 5  RSS 90.0 MiB"
    assert narrow[2].text == "deploy: web: replaced, 1m 00s ago"
    assert narrow[3].text.split() == _words("NAME STATE PID CONN FLY REQ/S CPU% MEM AGE RST")
    assert narrow[5].text.split() == _words("web[1] ready 101 4 1 100.0 10.0 30.0M 1m00s 0")
    assert wide[3].text.split() == _words("NAME STATE PID GEN CONN FLY REQ/S CPU% RSS PSS AGE RST REASON")
    assert (narrow[4].style, narrow[5].style) == ("watcher", "ready")


def _words(text: str) -> list[str]:
    return text.split()


def test_a_quantile_is_taken_within_its_bucket() -> None:
    assert quantile([], BOUNDS, 0.5) is None
    assert quantile([0, 0, 0, 0], BOUNDS, 0.5) is None
    assert quantile([10, 0, 0, 0], BOUNDS, 0.5) == pytest.approx(0.005)
    assert quantile([0, 10, 0, 0], BOUNDS, 1.0) == pytest.approx(0.1)
    assert quantile([0, 0, 0, 1], BOUNDS, 0.99) == 1.0


def test_the_help_fits_a_small_terminal() -> None:
    lines = HELP.splitlines()
    assert max(map(len, lines)) < 80
    assert len(lines) < 22


ROWS = view(report(12.0, (0, 0))).rows


def press(state: TopState, *keys: Key | str, height: int = 3) -> TopState:
    for key in keys:
        state, _wish = pressed(state, key, ROWS, height)
    return state


def test_keys_move_the_choice_and_stay_within_the_rows() -> None:
    for keys, expected in (
        ((Key.UP,), 0),
        (("j", Key.DOWN, "k"), 1),
        ((Key.END, "j"), 4),
        ((Key.PAGE_DOWN,), 2),
        ((Key.END, Key.PAGE_UP), 2),
        ((Key.END, Key.HOME), 0),
    ):
        assert press(TopState(), *keys).index(ROWS) == expected


def test_the_choice_stays_with_its_process_and_falls_back_to_its_watcher() -> None:
    state = press(TopState(), Key.END)
    assert ROWS[state.index(ROWS)].target == "db[1]"
    turned = ROWS[3:] + ROWS[:3]
    assert turned[state.index(turned)].target == "db[1]"
    assert state.index(ROWS[:4]) == 3
    assert state.index(()) == 0


def test_a_reload_is_asked_for_first() -> None:
    asked = press(TopState(), "j", "r")
    assert asked.asks == "reload web? y/n"
    assert pressed(asked, "n", ROWS, 3)[1] is Wish.NOTHING
    state, wish = pressed(asked, "y", ROWS, 3)
    assert (state.asks, wish) == ("", Wish.RELOAD)


def test_letters_are_wishes_where_there_is_a_row() -> None:
    assert [pressed(TopState(), key, ROWS, 3)[1] for key in "lSq"] == [Wish.LOGS, Wish.STACKS, Wish.LEAVE]
    assert [pressed(TopState(), key, (), 3)[1] for key in "lSqrj"] == [
        Wish.NOTHING,
        Wish.NOTHING,
        Wish.LEAVE,
        *[Wish.NOTHING] * 2,
    ]


def test_a_text_is_read_and_put_away() -> None:
    state = TopState().over("Logs", [str(number) for number in range(10)], at_end=True)
    assert press(state, Key.UP).first == 6
    assert press(state, Key.HOME, "j", "j").first == 2
    assert press(state, Key.END).text is not None
    for key in ("q", "x", Key.ESCAPE):
        assert press(state, key).text is None


def test_sorts_come_one_after_another() -> None:
    state = TopState()
    for expected in [*list(SORTS)[1:], "name"]:
        state = press(state, "s")
        assert (state.sort, state.message) == (expected, f"sorted by {expected}")


def test_a_long_line_of_a_text_goes_on_in_the_next_one() -> None:
    lines = ["short", "", "a" * 10 + "b" * 8 + "c"]
    assert wrapped(lines, 10) == ["short", "", "a" * 10, "  " + "b" * 8, "  c"]
