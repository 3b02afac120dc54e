"""Numbers, times and signals as text for people."""

from __future__ import annotations

import signal
from collections.abc import Sequence

__all__ = ["count_of", "exact_duration", "human_duration", "listed", "reason_in", "signal_name"]

_UNITS = (
    (0.1, 1, "s", 3),
    (10, 1, "s", 1),
    (120, 1, "s", 0),
    (7200, 60, "min", 0),
    (172800, 3600, "h", 1),
)


def human_duration(seconds: float) -> str:
    """Return a time as text in one unit: 0.02 s, 3.1 s, 17 min, 4.0 h, 12.0 d."""
    for limit, unit, name, digits in _UNITS:
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} d"


def exact_duration(seconds: float) -> str:
    """Return a time to the second while it is short, in at most two units: `4s`, `3m 12s`, `5h 02m`, `12d 3h`."""
    whole = int(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}h {minute:02d}m"
    if minutes:
        return f"{minutes}m {second:02d}s"
    return f"{second}s"


def count_of(number: int) -> str:
    """Return `1 process`, `4 processes`."""
    return "1 process" if number == 1 else f"{number} processes"


def listed(names: Sequence[str]) -> str:
    """Return `redis, web`, or `nothing`."""
    return ", ".join(names) or "nothing"


def reason_in(error: Exception) -> str:
    """Return the text of an exception; for an OSError only its words, without `[Errno 24]`."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def signal_name(signum: int) -> str:
    """Return `SIGTERM` for 15; a real-time signal has no name, and is `signal 34`."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
