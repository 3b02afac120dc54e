"""What a client may take: the time limits and sizes that the driver works with, read off the options once."""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.config.serving import HttpLimits, ServingOptions

__all__ = ["FOREVER", "GRACE", "Limits"]

FOREVER = float("inf")
GRACE = 2.0
"""Seconds in which an interrupted request has to end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts in seconds, infinite where there is none; `tick` is how often deadlines are looked at."""

    http: HttpLimits
    header: float
    body: float
    keep_alive: float
    write: float
    run: float
    queue: float
    min_rate: int
    tick: float

    @classmethod
    def of(cls, options: ServingOptions) -> Limits:
        """Read the options; 0 is no limit, but for keep_alive, where it is no keeping."""
        times = options.timeouts
        limited = (times.timeout, times.header_timeout, times.body_timeout, times.keep_alive, times.write_timeout)
        return cls(
            http=options.http.effective(),
            header=times.header_timeout or FOREVER,
            body=times.body_timeout or FOREVER,
            keep_alive=times.keep_alive,
            write=times.write_timeout or FOREVER,
            run=times.timeout or FOREVER,
            queue=times.queue_timeout or FOREVER,
            min_rate=times.min_rate,
            tick=max(0.02, min([1.0, *(each / 8 for each in limited if each)])),
        )
