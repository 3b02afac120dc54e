"""When a timer is due: expressions, time zones, changes to and from summer time, and clocks that jump."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from forkserve.config.schedules import due_between, next_due, schedule_text, time_zone_name
from forkserve.supervision.timers.timetable import LATE, MOST, SET_BACK, due_runs

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = 3600.0, 86400.0


def _at(text: str, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def _texts(schedule: str, after: str, until: str) -> list[str]:
    found = due_between(schedule, BERLIN, _at(after), _at(until), most=1000)
    return [f"{datetime.fromtimestamp(each, BERLIN):%d. %H:%M %Z}" for each in found]


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("*/5 * * * *", "2026-11-27 10:03:20", "2026-11-27 10:05"),
        ("*/5 * * * *", "2026-11-27 10:05:00", "2026-11-27 10:10"),
        ("0 9-17 * * MON-FRI", "2026-11-27 17:30", "2026-11-30 09:00"),
        ("@daily", "2026-12-31 12:00", "2027-01-01 00:00"),
        ("@Weekly", "2026-11-27 00:00", "2026-11-29 00:00"),
        ("0 0 29 2 *", "2026-11-27 00:00", "2028-02-29 00:00"),
        ("0 12 L * *", "2026-11-27 00:00", "2026-11-30 12:00"),
        ("0 0 1 * MON", "2026-11-27 00:00", "2026-11-30 00:00"),
        ("30 * * * * *", "2026-11-27 10:00:31", "2026-11-27 10:01:30"),
    ],
)
def test_the_next_instant_is_that_of_a_crontab(schedule: str, after: str, expected: str) -> None:
    assert next_due(schedule_text(schedule), BERLIN, _at(after)) == _at(expected)


def test_a_time_that_does_not_exist_is_taken_at_the_next_that_does() -> None:
    # on 29 March 2026 clocks in Berlin go from 02:00 to 03:00
    assert _texts("30 2 * * *", "2026-03-28 12:00", "2026-03-30 12:00") == ["29. 03:00 CEST", "30. 02:30 CEST"]
    assert _texts("0 * * * *", "2026-03-29 00:30", "2026-03-29 04:30") == [
        "29. 01:00 CET", "29. 03:00 CEST", "29. 04:00 CEST",
    ]  # fmt: skip


def test_a_time_that_comes_twice_is_taken_once_unless_it_goes_by_the_hour() -> None:
    # on 25 October 2026 clocks in Berlin go from 03:00 back to 02:00
    assert _texts("30 2 * * *", "2026-10-24 12:00", "2026-10-26 12:00") == ["25. 02:30 CEST", "26. 02:30 CET"]
    assert _texts("30 * * * *", "2026-10-25 01:45", "2026-10-25 03:45") == [
        "25. 02:30 CEST", "25. 02:30 CET", "25. 03:30 CET",
    ]  # fmt: skip
    every_five = due_between("*/5 * * * *", BERLIN, _at("2026-10-25 01:59"), _at("2026-10-25 03:01"), most=1000)
    assert len(every_five) == 25
    assert {b - a for a, b in pairwise(every_five)} == {300.0}


def test_in_the_hour_that_comes_twice_nothing_is_due_in_the_past() -> None:
    second_time = _at("2026-10-25 02:10", fold=1)
    assert next_due("30 2 * * *", BERLIN, second_time) == _at("2026-10-26 02:30")
    assert next_due("5,30,45 2 * * *", BERLIN, second_time) == _at("2026-10-26 02:05")


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("61 * * * *", "bad minute '61': expected 0 to 59"),
        ("* 24 * * *", "bad hour '24': expected 0 to 23"),
        ("* * 0 * *", "bad day-of-month '0': expected 1 to 31"),
        ("* * * 13 *", "bad month '13': expected 1 to 12"),
        ("* * * * 8", "bad day-of-week '8': expected 0 to 7"),
        ("*/0 * * * *", "bad minute '*/0'"),
        ("0 0 30 2 *", "bad day-of-month '30'"),
        ("5 * * *", "expected minute, hour, day, month, weekday"),
        ("5m", "('*/5 * * * *')"),
        ("daily", "did you mean '@daily'?"),
        ("@reboot", "respawn = false"),
        ("", "expected minute"),
    ],
)
def test_a_wrong_expression_is_named(schedule: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        schedule_text(schedule)
    assert words in str(caught.value)


def test_a_wrong_time_zone_is_named_with_the_nearest() -> None:
    assert time_zone_name("Europe/Berlin") == "Europe/Berlin"
    assert time_zone_name("utc") == "utc"
    for wrong, meant in (("Europe/Berln", "Europe/Berlin"), ("America/New York", "America/New_York")):
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            time_zone_name(wrong)
    for wrong in ("../../etc/passwd", "/etc/localtime", "Nowhere", "Europe"):
        with pytest.raises(ValueError, match="expected a time zone"):
            time_zone_name(wrong)


NOON = _at("2026-11-27 12:00")


def test_what_is_due_is_run_once_and_what_comes_next_is_told() -> None:
    found = due_runs("0 * * * *", BERLIN, NOON - 60, NOON + 0.2)
    assert (found.due, found.missed, found.handled, found.following) == (NOON, 0, NOON + 0.2, NOON + HOUR)
    again = due_runs("0 * * * *", BERLIN, found.handled, NOON + 30)
    assert (again.due, again.missed, again.following) == (None, 0, NOON + HOUR)


def test_a_run_that_comes_late_is_run_and_one_that_comes_too_late_was_missed() -> None:
    assert due_runs("0 * * * *", BERLIN, NOON - 60, NOON + LATE - 1).due == NOON
    found = due_runs("0 * * * *", BERLIN, NOON - 60, NOON + LATE + 1)
    assert (found.due, found.missed, found.missed_since) == (None, 1, NOON)


def test_a_long_sleep_misses_all_but_what_is_due_right_now() -> None:
    found = due_runs("*/5 * * * *", BERLIN, NOON - 1, NOON + HOUR)
    assert (found.due, found.missed, found.missed_since) == (NOON + HOUR, 12, NOON)
    assert due_runs("* * * * *", BERLIN, NOON, NOON + 10 * DAY).missed == MOST


def test_a_clock_that_is_set_back_a_little_repeats_nothing() -> None:
    found = due_runs("*/5 * * * *", BERLIN, NOON, NOON - HOUR)
    assert (found.due, found.missed, found.handled, found.set_back) == (None, 0, NOON, 0.0)
    assert found.following == NOON + 300


def test_a_clock_that_was_far_ahead_begins_the_timetable_again() -> None:
    found = due_runs("*/5 * * * *", BERLIN, NOON, NOON - SET_BACK - 60)
    assert (found.due, found.set_back) == (None, SET_BACK + 60)
    assert found.handled == NOON - SET_BACK - 60
    assert found.following == NOON - SET_BACK


def test_a_delay_moves_the_start_and_not_the_timetable() -> None:
    early = due_runs("0 * * * *", BERLIN, NOON - 60, NOON + 20, delay=30.0)
    assert (early.due, early.following) == (None, NOON)
    late = due_runs("0 * * * *", BERLIN, early.handled, NOON + 31, delay=30.0)
    assert (late.due, late.following) == (NOON, NOON + HOUR)
