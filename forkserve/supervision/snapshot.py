"""How supervision looks from outside: frozen pictures of watchers and their processes, for control and for people.

Rules: pure data, taken at one instant. What a watcher is doing is computed here from its slots and the wish.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from forkserve.config.model import WatcherOptions
from forkserve.supervision.figures import GenerationFigures
from forkserve.supervision.lifecycle import ProcessState, SlotState
from forkserve.supervision.plan import ONE_BY_ONE, RollPace, SlotSnapshot
from forkserve.supervision.verdict import CanaryVerdict

__all__ = [
    "NOTHING_COMPARED",
    "Awaited",
    "ProcessView",
    "SlotView",
    "WatcherSnapshot",
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
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One pid. `uptime` in seconds; `generation` counts the reloads of its watcher; `restarts` those of its slot.

    One with `is_zygote` serves nobody, and is no process of those that a watcher is to have.
    """

    name: str
    wid: int
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

    @property
    def workers(self) -> tuple[ProcessView, ...]:
        """The processes without the zygotes."""
        return tuple(each for each in self.processes if not each.is_zygote)


NOTHING_COMPARED = (GenerationFigures(generation=0, at=0.0), GenerationFigures(generation=0, at=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherSnapshot:
    """One watcher as its jobs see it.

    `newest` is the highest generation that ever was. `processes` counts those that run,
    `pids` are those that live, `ready` counts the slots that serve;
    `given_up` has the number and reason of each slot that is FATAL. `failures` counts early deaths and failed starts
    of the generation in force. `side_by_side` tells whether the processes of what is wanted next may run beside the
    present ones, `send_hup` whether SIGHUP replaces both; `rehearsed` is the verdict of a rehearsal: None while open,
    "" for yes. `delayed` is true while its stop waits for `drain_delay`, in seconds. `awaits`
    are the watchers that it comes after and that are not ready, `unmet` says why one of them will not be. `pace` is
    that of a roll, `spare` how many processes more it may have for a while. `verdict` is that on a canary, None without
    one, and `compared` what it is about: the figures of the old and of the new generation.
    """

    name: str
    up: bool
    target: int
    generation: int
    newest: int
    is_gone: bool
    is_settled: bool
    slots: tuple[SlotSnapshot, ...] = ()
    ready: int = 0
    given_up: tuple[tuple[int, str], ...] = ()
    processes: int = 0
    pids: frozenset[int] = frozenset()
    failures: int = 0
    last_failure: str = ""
    singleton: bool = False
    side_by_side: bool = True
    send_hup: bool = False
    stop_signal: int = 15
    grace: float = 30.0
    drain_delay: float = 0.0
    delayed: bool = False
    awaits: tuple[str, ...] = ()
    unmet: str = ""
    rehearsed: str | None = None
    pace: RollPace = ONE_BY_ONE
    spare: int = 0
    verdict: CanaryVerdict | None = None
    compared: tuple[GenerationFigures, GenerationFigures] = NOTHING_COMPARED


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
