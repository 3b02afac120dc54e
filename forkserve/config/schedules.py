"""When a timer is due: the expression of `schedule`, its time zone, and the resulting instants.

An expression is that of crontab(5), five fields or a name such as @daily; with six the first is the second. cronsim
parses it and follows Debian's cron: day of month and day of week are joined by "or" unless one of them begins with `*`,
and at a change to or from summer time

* a time of day that does not exist is moved to the next minute that does (02:30 at 03:00), and one that occurs twice
  is taken the first time;
* what begins with `*` in the field of minutes or hours follows elapsed time: `*/5 * * * *` occurs every five
  minutes through the hour that occurs twice, and skips nothing.

Rules: instants are seconds since the epoch. Pure, except that a time zone is read from the system's database.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from enum import Enum
from zoneinfo import ZoneInfo, available_timezones

from forkserve.suggest import nearest

__all__ = ["Overlap", "due_between", "next_due", "schedule_text", "time_zone", "time_zone_name"]

_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_RANGES = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, which the months must have, or L",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT, such as MON-FRI, MON#1 or 5L",
}
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_REPEATED = 10_000
"""Most instants that an hour which occurs twice may repeat."""


class Overlap(Enum):
    """What happens to a run that is due while another one is running."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


def schedule_text(value: str) -> str:
    """Check a schedule, and return it as typed; raises ValueError."""
    text = " ".join(value.split())
    fields = _fields(text)
    if not fields:
        raise ValueError(_expected(text))
    # imported late: few ask for it
    from cronsim import CronSimError

    try:
        found = next_due(text, UTC, _SOME_DAY)
    except CronSimError as error:
        raise ValueError(_worded(str(error), fields)) from None
    if found is None:
        raise ValueError(f"there is no such day in the next 50 years, got {text!r}")
    return text


def _fields(text: str) -> str:
    """Return the fields of an expression, nothing if there are too few or too many."""
    fields = _NAMES.get(text.lower(), text)
    return fields if len(fields.split()) in (5, 6) else ""


def _expected(text: str) -> str:
    known = f"minute, hour, day, month, weekday ('*/5 * * * *'), or {', '.join(sorted(_NAMES))}"
    if text.lower() == "@reboot":
        return "there is no @reboot: a watcher without schedule starts with forkserve; respawn = false has it run once"
    return f"expected {known}, got {text!r}{nearest(text.lower(), _NAMES)}"


def _worded(problem: str, fields: str) -> str:
    """Return what is wrong with an expression; `problem` is the message of cronsim, such as `Bad day-of-month`."""
    name = problem.rpartition(" ")[2]
    if name not in _RANGES:
        return f"{problem[:1].lower()}{problem[1:]}, got {fields!r}"
    number = list(_RANGES).index(name) - (6 - len(fields.split()))
    return f"bad {name} {fields.split()[number]!r}: expected {_RANGES[name]}, `*`, lists, ranges and steps"


def time_zone_name(value: str) -> str:
    """Check the name of a time zone, such as Europe/Berlin; raises ValueError."""
    name = value.strip()
    try:
        time_zone(name)
    except (LookupError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise ValueError("this machine has no time zones: install its tzdata, or `pip install tzdata`") from None
        alike = nearest(name, known) or nearest(re.sub(r"\W+", "_", name), known)
        raise ValueError(f"expected a time zone such as UTC or Europe/Berlin, got {value!r}{alike}") from None
    return name


def time_zone(name: str) -> tzinfo:
    """Return a time zone by its name; raises LookupError, ValueError and OSError."""
    return UTC if name.upper() == "UTC" else ZoneInfo(name)


def next_due(schedule: str, zone: tzinfo, after: float) -> float | None:
    """Return the first instant of a schedule after another one; None if there is none."""
    # imported late: few ask for it
    from cronsim import CronSim

    moments = CronSim(_fields(schedule), datetime.fromtimestamp(after, zone))
    for _ in range(_REPEATED):
        moment: datetime | None = next(moments, None)
        if moment is None:
            return None
        # in an hour that comes twice, cronsim goes on from its first time
        if moment.timestamp() > after:
            return moment.timestamp()
    return None


def due_between(schedule: str, zone: tzinfo, after: float, until: float, *, most: int) -> list[float]:
    """Return the instants of a schedule after one and up to another one, the first `most` of them."""
    found: list[float] = []
    instant = next_due(schedule, zone, after)
    while instant is not None and instant <= until and len(found) < most:
        found.append(instant)
        instant = next_due(schedule, zone, instant)
    return found
