"""Values derived from the options about time; the limits themselves are the slices of the options.

The driver holds `HttpLimits` and `Timeouts` of `forkserve.config.serving`, both `effective`: only in a user's input
does 0 stand for no limit.
"""

from __future__ import annotations

import math

from forkserve.config.serving import Timeouts

__all__ = ["FOREVER", "GRACE", "tick_of"]

FOREVER = math.inf
GRACE = 2.0
"""Seconds within which an interrupted request must end."""


def tick_of(times: Timeouts) -> float:
    """Return how often deadlines are checked, in seconds: eight times in the shortest, at least each second."""
    limited = (times.timeout, times.header_timeout, times.body_timeout, times.keep_alive, times.write_timeout)
    return max(0.02, min([1.0, *(each / 8 for each in limited if each)]))
