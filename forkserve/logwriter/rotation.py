"""When a file is rotated by time, and the names of rotated files. Pure: a function of the given clock.

The units and names are those of logging.handlers.TimedRotatingFileHandler, which Circus users know.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

__all__ = ["next_rotation", "rotated_name", "surplus"]

_UNITS = {"S": 1, "M": 60, "H": 3600, "D": 86400}
_FORMATS = {"S": "%Y-%m-%d_%H-%M-%S", "M": "%Y-%m-%d_%H-%M", "H": "%Y-%m-%d_%H"}
_DAY = "%Y-%m-%d"
_STAMP = re.compile(r"\.\d{4}-\d\d-\d\d(_\d\d(-\d\d(-\d\d)?)?)?")


def next_rotation(start: float, when: str, interval: int, *, utc: bool) -> float:
    """Return when a file begun at `start` is full: `interval` units later, or at a midnight (MIDNIGHT, W0 to W6).

    Times are seconds of the wall clock. A midnight is the local one, regardless of summer time in between.
    """
    if when in _UNITS:
        return start + _UNITS[when] * interval
    now = time.gmtime(start) if utc else time.localtime(start)
    days = interval if when == "MIDNIGHT" else (int(when[1:]) - now.tm_wday) % 7 + 1
    if utc:
        return start - start % 86400 + days * 86400
    return time.mktime((now.tm_year, now.tm_mon, now.tm_mday + days, 0, 0, 0, 0, 0, -1))


def rotated_name(path: str, start: float, when: str, *, utc: bool) -> str:
    """Return the name for what was written from `start` on, e.g. `app.log.2024-05-31`."""
    moment = time.gmtime(start) if utc else time.localtime(start)
    return f"{path}.{time.strftime(_FORMATS.get(when, _DAY), moment)}"


def surplus(name: str, found: Iterable[str], backup_count: int) -> list[str]:
    """Return which of the names in the folder of the file `name` are rotated ones beyond the newest `backup_count`."""
    if backup_count == 0:
        return []
    rotated = sorted(
        each for each in found if each.startswith(name) and _STAMP.fullmatch(each[len(name) :].split("~")[0])
    )
    return rotated[:-backup_count]
