"""What follows from the options about time, and is no option; the limits themselves are the slices of the options.

The driver holds `HttpLimits` and `Timeouts` of `forkserve.config.serving`, both `effective`: only in what a user wrote
does 0 stand for no limit.
"""

from __future__ import annotations

import math

from forkserve.config.serving import Timeouts

__all__ = ["FOREVER", "GRACE", "tick_of"]

FOREVER = math.inf
GRACE = 2.0
"""Seconds in which an interrupted request has to end."""


def tick_of(times: Timeouts) -> float:
    """Return how often deadlines are looked at, in seconds: eight times in the shortest, each second at least."""
    limited = (times.timeout, times.header_timeout, times.body_timeout, times.keep_alive, times.write_timeout)
    return max(0.02, min([1.0, *(each / 8 for each in limited if each)]))
