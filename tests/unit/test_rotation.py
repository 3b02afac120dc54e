"""Rotation by time follows the units of the standard library's handler."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator

import pytest

from forkserve.logwriter.rotation import next_rotation, rotated_name, surplus

SATURDAY = calendar.timegm((2024, 3, 30, 10, 20, 30))


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone whose summer time began on 2024-03-31 at 02:00."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("when", "interval", "utc", "expected"),
    [
        ("S", 5, False, SATURDAY + 5),
        ("M", 2, False, SATURDAY + 120),
        ("H", 1, False, SATURDAY + 3600),
        ("D", 3, False, SATURDAY + 3 * 86400),
        ("MIDNIGHT", 1, True, calendar.timegm((2024, 3, 31, 0, 0, 0))),
        ("MIDNIGHT", 1, False, calendar.timegm((2024, 3, 30, 23, 0, 0))),
        ("MIDNIGHT", 2, False, calendar.timegm((2024, 3, 31, 22, 0, 0))),  # summer time has begun
        ("W5", 1, True, calendar.timegm((2024, 3, 31, 0, 0, 0))),
        ("W6", 1, True, calendar.timegm((2024, 4, 1, 0, 0, 0))),
        ("W4", 1, True, calendar.timegm((2024, 4, 6, 0, 0, 0))),
    ],
)
def test_a_file_is_rotated_after_its_time(when: str, interval: int, utc: bool, expected: int) -> None:
    assert next_rotation(SATURDAY, when, interval, utc=utc) == expected


@pytest.mark.parametrize(
    ("when", "name"),
    [("S", "2024-03-30_10-20-30"), ("M", "2024-03-30_10-20"), ("H", "2024-03-30_10"), ("D", "2024-03-30")],
)
def test_a_rotated_file_is_named_by_when_it_began(when: str, name: str) -> None:
    assert rotated_name("/var/log/app.log", SATURDAY, when, utc=True) == f"/var/log/app.log.{name}"


def test_only_the_oldest_rotated_files_are_surplus() -> None:
    found = ["app.log", "app.log.2024-01-02", "app.log.2024-01-01", "app.log.2024-01-03", "app.log.gz", "other"]

    assert surplus("app.log", found, 2) == ["app.log.2024-01-01"]
    assert surplus("app.log", found, 3) == []
    assert surplus("app.log", found, 0) == []
