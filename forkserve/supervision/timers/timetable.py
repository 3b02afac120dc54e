"""What a timer has to do at a look at the clock: run, tell of what it missed, or wait.

Theory of operation. `handled` is the instant up to which all that was due has been dealt with; a look at `now` deals
with what has become due since. What comes at most `LATE` seconds late is run; what is older was missed, since the
machine slept or its clock was set forward, and is told, and made up for by one run where `catch_up` wants it. When the
clock was set back by a little, what has run does not run again: nothing is due before `handled`. When it was set back
by more than `SET_BACK`, it had been wrong, and the timetable begins at what it says now.

Rules: pure. Instants are seconds since the epoch; the clock may jump between two looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from forkserve.config.schedules import due_between, next_due

__all__ = ["LATE", "MOST", "SET_BACK", "DueRuns", "look"]

LATE = 60.0
"""Seconds by which a run may come late and is still that run."""
SET_BACK = 3 * 3600.0
"""Seconds by which a clock may be set back without a timetable that begins again; as in Debian's cron."""
MOST = 100
"""Missed runs that are counted at most."""


@dataclass(frozen=True, slots=True)
class DueRuns:
    """What a look has found: `due` is the instant of the run to start, None for no run; `handled` is for the next look.

    `missed` counts the runs that cannot be had again, up to MOST, the first of which was due at `missed_since`;
    `set_back` are the seconds by which the clock was found to be behind, where the timetable has begun again.
    `following` is when the next run is due, None for never.
    """

    handled: float
    due: float | None = None
    missed: int = 0
    missed_since: float = 0.0
    set_back: float = 0.0
    following: float | None = None


def look(schedule: str, zone: tzinfo, handled: float, now: float, *, delay: float = 0.0) -> DueRuns:
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
