"""How supervision looks from outside: frozen pictures of watchers and their processes, for control and for people.

Rules: pure data, taken at one instant. What a watcher is doing is computed here from its slots and the wish.
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
    """What a watcher is doing, in the words of Circus, and FATAL in that of supervisord."""

    STOPPED = "stopped"
    STARTING = "starting"
    ACTIVE = "active"
    HELD = "held"
    """It runs, and accepts nothing."""
    DELAYED = "delayed"
    """It is to stop, and serves on for `drain_delay`; it counts as not ready."""
    STOPPING = "stopping"
    WAITING = "waiting"
    """It runs nothing, and starts its processes when a connection waits (`on_demand`)."""
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One pid. `uptime` in seconds; `generation` counts the reloads of its watcher; `restarts` those of its slot.

    One with `is_zygote` serves nobody, and is no process of those that a watcher is to have.
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
    """What the process last said of itself by STATUS=, or an empty text."""
    is_zygote: bool = False


@dataclass(frozen=True, slots=True)
class SlotView:
    """One place; `retry_in` is the rest of its pause in seconds, `reason` how its last occupant was lost."""

    wid: int
    state: SlotState
    pid: int | None
    retry_in: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """One slot as a roll sees it. `generation` is that of its occupant; `starting` that a process is not ready yet,
    `surging` that this is one beside the occupant."""

    wid: int
    state: SlotState
    generation: int
    starting: bool
    surging: bool = False


class RunCause(Enum):
    """Why a run began."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch-up"
    QUEUED = "queued"
    ASKED = "asked"


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


@dataclass(frozen=True, slots=True)
class WatcherView:
    """One watcher. `restarts` counts the processes it lost and replaced since it began."""

    name: str
    state: WatcherState
    numprocesses: int
    restarts: int
    generation: int
    processes: tuple[ProcessView, ...]
    slots: tuple[SlotView, ...]
    options: WatcherOptions
    doing: str = ""
    """How far a job is that goes on."""
    timer: TimerView | None = None
    """Its schedule, where it has one."""

    @property
    def workers(self) -> tuple[ProcessView, ...]:
        """The processes without the zygotes."""
        return tuple(each for each in self.processes if not each.is_zygote)


@dataclass(frozen=True, slots=True)
class Awaited:
    """The watchers that one comes after and that are not ready, and why one of them will not be, or ""."""

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

    `slots` are pairs of a slot's state and whether its process is ready, `processes` counts all that live, `finished`
    says that they have ended for good (`respawn` off), `delayed` that a stop waits for `drain_delay`,
    `held` that none of them accepts.
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
