"""How supervision says numbers and times to a person."""

from __future__ import annotations

import signal
from collections.abc import Sequence

__all__ = ["count_of", "human_duration", "listed", "signal_name"]

_UNITS = (
    (0.1, 1, "s", 3),
    (10, 1, "s", 1),
    (120, 1, "s", 0),
    (7200, 60, "min", 0),
    (172800, 3600, "h", 1),
)


def human_duration(seconds: float) -> str:
    """Return a time as a person says it: 0.02 s, 3.1 s, 17 min, 4.0 h, 12 d."""
    for limit, unit, name, digits in _UNITS:
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} d"


def count_of(number: int) -> str:
    """Return `1 process`, `4 processes`."""
    return "1 process" if number == 1 else f"{number} processes"


def listed(names: Sequence[str]) -> str:
    """Return `redis, web`, or `nothing`."""
    return ", ".join(names) or "nothing"


def signal_name(signum: int) -> str:
    """Return `SIGTERM` for 15; a real-time signal has no name, and is `signal 34`."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
