"""Dates in HTTP: one format is written, three are read (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import gmtime, struct_time, time

__all__ = ["MONTHS", "date_text", "parse_date"]

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = tuple(
    re.compile(pattern, re.ASCII).fullmatch
    for pattern in (
        rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} GMT",
        rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def date_text(now: float) -> str:
    """Return seconds since the epoch as an HTTP date, e.g. `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7)."""
    at = gmtime(now)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {MONTHS[at.tm_mon - 1]} {at.tm_year:04}"
        f" {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT"
    )


def parse_date(text: str, now: Callable[[], float] = time) -> int | None:
    """Return the seconds since the epoch of an HTTP date in any of its three formats, else None (RFC 9110 section
    5.6.7). `now` returns the present, which tells the century of a year of two digits.
    """
    match = next((found for form in _DATES if (found := form(text))), None)
    if match is None or match["month"] not in MONTHS:
        return None
    year, month, day, hour, minute, second = (
        int(match["year"]),
        MONTHS.index(match["month"]) + 1,
        *(int(match[part]) for part in ("day", "hour", "minute", "second")),
    )
    if len(match["year"]) == 2:
        year = _full_year(year, (month, day, hour, minute, second), gmtime(now()))
    try:
        # datetime has no leap seconds, `:60`; the second before is the nearest.
        at = datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=UTC)
    except ValueError:
        return None
    return int(at.timestamp())


def _full_year(digits: int, rest: tuple[int, ...], now: struct_time) -> int:
    """The year with these last two digits: the latest with which the date is at most 50 years in the future."""
    limit = now.tm_year + 50
    year = limit - (limit - digits) % 100
    return year - 100 if year == limit and rest > tuple(now[1:6]) else year
