"""How supervision looks from outside: frozen views of watchers and their processes, for control and for people.

Rules: pure data, taken at one instant. What a watcher is doing is computed from its slots and its target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from forkserve.config.model import WatcherOptions
from forkserve.config.schedules import Overlap
from forkserve.supervision.lifecycle import ProcessState, SlotState
from forkserve.wording import human_duration

__all__ = [
    "Awaited",
    "ProcessView",
    "RunCause",
    "RunResult",
    "SlotSnapshot",
    "SlotView",
    "TimerSnapshot",
    "TimerView",
    "WatcherState",
    "WatcherView",
    "watcher_state",
]


class WatcherState(Enum):
    """What a watcher is doing, in the words of Circus; FATAL is that of supervisord."""

    STOPPED = "stopped"
    STARTING = "starting"
    ACTIVE = "active"
    HELD = "held"
    """It runs, and does not accept."""
    DELAYED = "delayed"
    """It is about to stop, and serves on for `drain_delay`; it counts as not ready."""
    STOPPING = "stopping"
    WAITING = "waiting"
    """It runs nothing, and starts its processes when a connection waits (`on_demand`)."""
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One pid. `uptime` in seconds; `generation` counts the reloads of its watcher; `restarts` those of its slot.

    A zygote (`is_zygote`) serves no requests, and does not count as a process of its watcher. One with
    `is_adopted` was started by a master that was killed since.
    """

    name: str
    wid: int
    circus_wid: int
    pid: int
    state: ProcessState
    uptime: float
    generation: int
    restarts: int
    status: str
    """The last STATUS= of the process, or an empty text."""
    is_zygote: bool = False
    is_adopted: bool = False


@dataclass(frozen=True, slots=True)
class SlotView:
    """One place, and what its process is called.

    `retry_in` is the rest of its pause in seconds, `reason` how its last occupant was lost, `stopped` that it alone was
    stopped.
    """

    wid: int
    name: str
    state: SlotState
    pid: int | None
    retry_in: float | None
    reason: str
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """One slot as seen by a reload.

    `generation` is that of its occupant. `starting` means that a process is not ready yet, `surging` that this one is
    beside the occupant. `finished` means that it is not to be filled, `stopped` that it alone was stopped. `serves` is
    the generation that has begun to serve here, 0 for none.
    """

    wid: int
    state: SlotState
    generation: int
    starting: bool
    surging: bool = False
    finished: bool = False
    stopped: bool = False
    serves: int = 0


class RunCause(Enum):
    """Why a run began."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch-up"
    QUEUED = "queued"
    ASKED = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run that has ended. `seconds` is its duration; without `code` and `signum` no program ran."""

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
        """The exit code as in a shell: the code, 128 plus the signal that ended it, or 127 if no program ran."""
        return self.code if self.code is not None else 127 if self.signum is None else 128 + self.signum

    def text(self) -> str:
        """Return how it ended, for a person."""
        return f"run {self.number} {self.how} after {human_duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class TimerSnapshot:
    """A timer as seen by a job: the number of the last run, those in progress, and the results that are kept."""

    overlap: Overlap
    made: int
    running: tuple[int, ...]
    results: tuple[RunResult, ...]


@dataclass(frozen=True, slots=True)
class TimerView:
    """A timer as shown at `now`; `next_at` is None while it is stopped, `running` are numbers of runs."""

    now: float
    schedule: str
    time_zone: str
    next_at: float | None
    running: tuple[int, ...]
    queued: bool
    last: RunResult | None


@dataclass(frozen=True, slots=True)
class WatcherView:
    """One watcher. `restarts` counts the processes it has lost and replaced since it started."""

    name: str
    state: WatcherState
    numprocesses: int
    restarts: int
    generation: int
    processes: tuple[ProcessView, ...]
    slots: tuple[SlotView, ...]
    options: WatcherOptions
    doing: str = ""
    """The progress of its current job."""
    timer: TimerView | None = None
    """Its schedule, if it has one."""

    @property
    def workers(self) -> tuple[ProcessView, ...]:
        """The processes without the zygotes."""
        return tuple(each for each in self.processes if not each.is_zygote)


@dataclass(frozen=True, slots=True)
class Awaited:
    """The watchers that one depends on and that are not ready, and why one of them never will be, or ""."""

    names: tuple[str, ...] = ()
    unmet: str = ""


def watcher_state(
    *,
    up: bool,
    slots: Iterable[tuple[SlotState, bool]],
    processes: int,
    finished: bool = False,
    delayed: bool = False,
    held: bool = False,
) -> WatcherState:
    """Compute what a watcher is doing.

    `slots` are pairs of a slot's state and whether its process is ready. `processes` counts those alive. `finished`
    means that they have ended for good (`respawn` off), `delayed` that a stop waits for `drain_delay`, `held` that none
    accepts.
    """
    pairs = tuple(slots)
    if not up:
        return WatcherState.STOPPING if processes else WatcherState.STOPPED
    if delayed:
        return WatcherState.DELAYED
    if finished:
        return WatcherState.STOPPED
    if pairs and all(state is SlotState.FATAL for state, _ in pairs):
        return WatcherState.FATAL
    if not pairs or any(ready for _, ready in pairs):
        return WatcherState.HELD if held else WatcherState.ACTIVE
    return WatcherState.STARTING
