"""The runs of a timer as data: what goes on, what is queued, how the last ones ended.

Rules: plain values only, so that all of it can be written down (`state`). Instants that a person sees are seconds since
the epoch, those that something waits for are of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forkserve.supervision.snapshot import RunCause, RunResult

__all__ = ["KEPT", "TimerRun", "TimerState"]

KEPT = 10
"""Results that are kept."""


@dataclass(slots=True, kw_only=True)
class TimerRun:
    """One run that goes on. `due` is when it was to begin, `began` when it did, `began_at` the same on the monotonic
    clock; `code`, `signum` and `how` say how its process ended, `timed_out` that it had its time (`run_timeout`)."""

    number: int
    wid: int
    cause: RunCause
    due: float
    began: float
    began_at: float
    code: int | None = None
    signum: int | None = None
    how: str = ""
    timed_out: bool = False


@dataclass(slots=True)
class TimerState:
    """What a timer knows. `handled` is None while it is stopped; see `timetable`. `following` is when the next run is
    due, which starts `delay` seconds later; `look_at` is the next look at the clock. `of` is the schedule that these
    belong to. `queued` is when the run was due that waits for the one that goes on; `made` counts the runs."""

    of: str = ""
    handled: float | None = None
    following: float | None = None
    delay: float = 0.0
    look_at: float | None = None
    queued: float | None = None
    made: int = 0
    runs: list[TimerRun] = field(default_factory=list)
    results: list[RunResult] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Of runs, by what became of them: good, failed, skipped, missed."""
    last_good: float | None = None
    """When the last run that was good has ended, in seconds since the epoch."""

    def count(self, outcome: str, number: int = 1) -> None:
        """Count what has become of a run, or of several."""
        self.counts[outcome] = self.counts.get(outcome, 0) + number
