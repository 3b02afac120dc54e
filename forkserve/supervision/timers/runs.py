"""The runs of a timer as data: what is running, what is queued, how the last ones ended.

Rules: plain values only, so that all of it can be serialised (`state`). Instants that are shown are seconds since
the epoch, those that are waited for are of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forkserve.supervision.snapshot import RunCause, RunResult

__all__ = ["KEPT", "SAVED", "TimerRun", "TimerState"]

KEPT = 100
"""Results that are kept: many runs may end in one event, and each job looks for its own."""
SAVED = 10
"""The last of them, which outlive the master."""


@dataclass(slots=True, kw_only=True)
class TimerRun:
    """One run in progress.

    `due` is when it was to begin, `began` when it did, `began_at` the same on the monotonic clock. `code`, `signum` and
    `how` say how its process ended, `timed_out` that it exceeded `run_timeout`.
    """

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
    """The state of a timer.

    `handled` is None while it is stopped; see `timetable`. `resume` is where another master has left it, until it
    begins, `left` where it was stopped. `following` is when the next run is due, which starts `delay` seconds later;
    `look_at` is the next check of the clock. `of` is the schedule of these values. `queued` is when the run was due
    that waits for the current one; `made` counts the runs.
    """

    of: str = ""
    handled: float | None = None
    resume: float | None = None
    left: float | None = None
    following: float | None = None
    delay: float = 0.0
    look_at: float | None = None
    queued: float | None = None
    made: int = 0
    runs: list[TimerRun] = field(default_factory=list)
    results: list[RunResult] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Runs by result: good, failed, skipped, missed."""
    last_good: float | None = None
    """When the last good run ended, in seconds since the epoch."""

    def count(self, outcome: str, number: int = 1) -> None:
        """Count the result of a run, or of several."""
        self.counts[outcome] = self.counts.get(outcome, 0) + number
