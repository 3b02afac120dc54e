"""Work on a watcher that takes time, as data: the state of each kind of job, and the steps that several share.

Rules: pure. A job refers to generations and offers by number, so that it can be serialised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from forkserve.supervision.events import WatcherStopped
from forkserve.supervision.jobs.effects import JobEffect, TakeDown, Tell
from forkserve.supervision.jobs.snapshot import WatcherSnapshot
from forkserve.wording import count_of, signal_name

__all__ = [
    "Advance",
    "Job",
    "JobPhase",
    "Kill",
    "Reload",
    "Resize",
    "RunOnce",
    "Restart",
    "SlotJob",
    "Start",
    "Stop",
    "running",
    "taking_down",
]


class JobPhase(Enum):
    """The progress of a job; the phases that begin with BACK undo a reload."""

    NEW = "new"
    REHEARSING = "rehearsing"
    DELAYING = "delaying"
    STOPPING = "stopping"
    AWAITING = "awaiting"
    STARTING = "starting"
    RUNNING = "running"
    ROLLING = "rolling"
    WATCHING = "watching"
    BACK_ROLLING = "back, rolling"
    BACK_STOPPING = "back, stopping"
    BACK_STARTING = "back, starting"


@dataclass(frozen=True, slots=True)
class Start:
    """Run a watcher; done when all its processes are ready, or have been given up."""

    name: ClassVar[str] = "start"
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a watcher; done when nothing of it is left. `closing` means that its sockets are closed afterwards."""

    name: ClassVar[str] = "stop"
    phase: JobPhase = JobPhase.NEW
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop a watcher, then start it."""

    name: ClassVar[str] = "restart"
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Replace the processes of a watcher, with `offer` 0 by others of the same command; `target` None keeps their
    number.

    `before` is the generation to go back to, `target_before` its number of processes; `failures` is the watcher's count
    when the new generation began, `kept` how many had not been replaced when it failed, `reason` why.

    With `at_once` all successors start together, whatever the pace of the watcher is, if they may run beside.

    With `back_to` the offer is the command of that generation, which was good; it is rehearsed first.

    With `canary`, that many processes are replaced first, and compared with the others for `watch` seconds: `slots` are
    theirs, `extra` is how many of these exceed the watcher's usual number, `promoted` means that the rest follows,
    `condemned` that they were found worse.
    """

    name: ClassVar[str] = "reload"
    offer: int = 0
    target: int | None = None
    phase: JobPhase = JobPhase.NEW
    before: int = 0
    target_before: int = 0
    failures: int = 0
    replaced: int = 0
    kept: int = 0
    reason: str = ""
    back_to: int = 0
    canary: int = 0
    watch: float = 0.0
    slots: tuple[int, ...] = ()
    extra: int = 0
    promoted: bool = False
    condemned: bool = False
    at_once: bool = False

    @property
    def is_trial(self) -> bool:
        """True while its new generation is confined to some slots."""
        return bool(self.slots) and not self.promoted and not self.phase.value.startswith("back")


@dataclass(frozen=True, slots=True)
class Resize:
    """Change the number of processes; runs beside other jobs."""

    name: ClassVar[str] = "resize"
    target: int
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True)
class Kill:
    """End some processes, by `signum` and after `timeout` seconds by SIGKILL (None: as configured); they are replaced.

    Runs beside other jobs, and is done when they have ended.
    """

    name: ClassVar[str] = "kill"
    pids: tuple[int, ...]
    signum: int | None = None
    timeout: float | None = None
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True)
class RunOnce:
    """Start a run of a timer now; done when it is over. `number` is that of the run, 0 until it begins.

    Runs beside other jobs.
    """

    name: ClassVar[str] = "run"
    number: int = 0
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True)
class SlotJob:
    """Stop, start, or do both to the process of one slot, `place` in messages; `pids` are its processes before.

    Runs beside other jobs.
    """

    name: ClassVar[str] = "slot"
    wid: int
    place: str
    pids: tuple[int, ...] = ()
    stops: bool = False
    starts: bool = False
    phase: JobPhase = JobPhase.NEW


Job = Start | Stop | Restart | Reload | Resize | Kill | RunOnce | SlotJob


@dataclass(frozen=True, slots=True)
class Advance:
    """The next state of a job, and what is to be done; `done` or `failed` is a line that ends it.

    `code` is the exit code of a run that is over.
    """

    job: Job
    effects: tuple[JobEffect, ...] = ()
    done: str | None = None
    failed: str | None = None
    code: int | None = None


def running(job: Job, seen: WatcherSnapshot) -> Advance:
    """Report what runs once no start is pending; a slot that was given up is a failure."""
    if not seen.has_started:
        return Advance(job)
    if seen.timer is not None:
        return Advance(job, done=f"{seen.name}: runs by its schedule")
    if seen.waiting:
        return Advance(job, done=f"{seen.name}: waiting for a connection")
    if seen.given_up:
        wid, reason = seen.given_up[0]
        what = f"{count_of(len(seen.given_up))} of {len(seen.slots)} given up"
        return Advance(job, failed=f"{seen.name}: {what}; {seen.name}[{wid}] {reason}")
    return Advance(job, done=f"{seen.name}: {count_of(seen.ready)} running")


_DOWN = TakeDown()


def taking_down(seen: WatcherSnapshot, how: TakeDown = _DOWN) -> tuple[JobEffect, ...]:
    if not (seen.processes and seen.up):
        return (how,)
    begun = WatcherStopped(
        watcher=seen.name,
        done=False,
        processes=seen.processes,
        signal=signal_name(seen.stop_signal),
        grace=seen.grace,
    )
    return (Tell(begun), how)
