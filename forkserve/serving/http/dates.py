"""Dates in HTTP: one format is written, three are read (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from time import gmtime

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


def parse_date(text: str) -> int | None:
    """Return the seconds since the epoch of an HTTP date in any of its three formats, else None (RFC 9110 section
    5.6.7).
    """
    match = next((found for form in _DATES if (found := form(text))), None)
    if match is None or match["month"] not in MONTHS:
        return None
    month = MONTHS.index(match["month"]) + 1
    year = int(match["year"])
    if year < 100:
        year += 1900 if year >= 70 else 2000
    clock = (int(match["hour"]), int(match["minute"]), min(int(match["second"]), 59))
    try:
        return int(datetime(year, month, int(match["day"]), *clock, tzinfo=UTC).timestamp())
    except ValueError:
        return None
