"""The time of day: the clock that people read, which may be set, and the time zone of this machine."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from functools import cache
from time import time
from zoneinfo import ZoneInfo

from forkserve.config.schedules import time_zone

__all__ = ["local_zone", "time", "zone_of"]


@cache
def local_zone() -> tzinfo:
    """Return the time zone of TZ, or of /etc/localtime; UTC if neither is set, like the C library."""
    name = os.environ.get("TZ", "").removeprefix(":")
    try:
        if name:
            return time_zone(name)
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, LookupError):
        return UTC


@cache
def zone_of(name: str | None) -> tzinfo:
    """Return a time zone by its name, that of this machine for None; one that the system no longer has is UTC."""
    if name is None:
        return local_zone()
    try:
        return time_zone(name)
    except (OSError, ValueError, LookupError):
        return UTC
