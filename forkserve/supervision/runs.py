"""The runs of a timer as data: what goes on, what is queued, how the last ones ended.

Rules: plain values only, so that all of it can be written down (`state`). Instants that a person sees are seconds since
the epoch, those that something waits for are of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from forkserve.config.schedules import Overlap
from forkserve.wording import human_duration

__all__ = ["KEPT", "TimerRun", "RunCause", "RunResult", "TimerSnapshot", "TimerState", "TimerView"]

KEPT = 10
"""Results that are kept."""


class RunCause(Enum):
    """Why a run began."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch-up"
    QUEUED = "queued"
    ASKED = "asked"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run that is over. `seconds` is how long it took; without `code` and `signum` no program ran."""

    number: int
    cause: RunCause
    due: float
    began: float
    seconds: float
    code: int | None
    signum: int | None
    how: str

    @property
    def is_good(self) -> bool:
        """True when it ended with exit code 0."""
        return self.code == 0

    @property
    def exit_code(self) -> int:
        """What a shell would say: its exit code, 128 and the signal that ended it, 127 where no program ran."""
        return self.code if self.code is not None else 127 if self.signum is None else 128 + self.signum

    def text(self) -> str:
        """Return how it ended, for a person."""
        return f"run {self.number} {self.how} after {human_duration(self.seconds)}"


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


@dataclass(frozen=True, slots=True)
class TimerSnapshot:
    """A timer as a job sees it: the number of the last run, those that go on, and the results that are kept."""

    overlap: Overlap
    made: int
    running: tuple[int, ...]
    results: tuple[RunResult, ...]


@dataclass(frozen=True, slots=True)
class TimerView:
    """A timer as a person sees it at `now`; `next_at` is None while it is stopped, `running` are numbers of runs."""

    now: float
    schedule: str
    time_zone: str
    next_at: float | None
    running: tuple[int, ...]
    queued: bool
    last: RunResult | None
