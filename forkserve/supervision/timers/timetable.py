"""What a timer must do when it checks the clock: run, report missed runs, or wait.

Theory of operation. `handled` is the instant up to which everything due has been handled; a check at `now` handles
what has become due since. A run that is at most `LATE` seconds late is started. Older ones were missed, because the
machine slept or its clock was set forward; they are reported, and made up for by one run if `catch_up` asks for it. If
the clock was set back by a little, a run is not repeated: nothing is due before `handled`. If it was set back by more
than `SET_BACK`, it had been wrong, and the timetable starts over from the new time.

Rules: pure. Instants are seconds since the epoch; the clock may jump between two checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from forkserve.config.schedules import due_between, next_due

__all__ = ["LATE", "MOST", "SET_BACK", "DueRuns", "due_runs"]

LATE = 60.0
"""Seconds by which a run may be late without being missed."""
SET_BACK = 3 * 3600.0
"""Seconds by which a clock may be set back without starting over; as in Debian's cron."""
MOST = 100
"""Most missed runs that are counted."""


@dataclass(frozen=True, slots=True)
class DueRuns:
    """The result of a check: `due` is the instant of the run to start, None for no run; `handled` is for the next
    check.

    `missed` counts the runs that are lost, up to MOST, the first of which was due at `missed_since`. `set_back` is the
    number of seconds by which the clock was set back, if the timetable has started over. `following` is when the next
    run is due, None for never.
    """

    handled: float
    due: float | None = None
    missed: int = 0
    missed_since: float = 0.0
    set_back: float = 0.0
    following: float | None = None


def due_runs(schedule: str, zone: tzinfo, handled: float, now: float, *, delay: float = 0.0) -> DueRuns:
    """Return what is to be done at `now`; runs start `delay` seconds after they are due."""
    until = now - delay
    if now < handled - SET_BACK:
        return DueRuns(until, set_back=handled - now, following=next_due(schedule, zone, until))
    if until <= handled:
        return DueRuns(handled, following=next_due(schedule, zone, handled))
    edge = max(handled, until - LATE)
    recent = due_between(schedule, zone, edge, until, most=MOST)
    missed = due_between(schedule, zone, handled, edge, most=MOST) + recent[:-1]
    return DueRuns(
        until,
        due=recent[-1] if recent else None,
        missed=min(len(missed), MOST),
        missed_since=missed[0] if missed else 0.0,
        following=next_due(schedule, zone, until),
    )
