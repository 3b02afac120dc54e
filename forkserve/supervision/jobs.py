"""Work on a watcher that takes time, as data: start, stop, restart, reload, resize.

Theory of operation. A job is frozen. `advance(job, snapshot)` looks at the watcher as it is now, and returns the job as
it goes on, what is to be done (effects, data as well), and whether it is over. `jobqueue` carries the effects out and
asks again, after every event of the watcher.

A reload replaces processes one by one: start the new, wait until it is ready, then drain the old. Where two may not run
at once it stops the old first, after a rehearsal of the new. The first failure turns it round: what was replaced is
replaced again by the generation before, so that two generations never stay.

Rules: pure. A job names generations and offers by number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from forkserve.supervision.events import (
    ReloadBegun,
    ReloadDone,
    ReloadFailed,
    ReloadStep,
    WatcherAwaits,
    WatcherDelayed,
    WatcherResized,
    WatcherStarted,
    WatcherStopped,
)
from forkserve.supervision.jobeffects import (
    Delay,
    EndProcesses,
    JobEffect,
    OpenGeneration,
    PutBack,
    Rehearse,
    Replace,
    Revive,
    SendHup,
    SetTarget,
    TakeDown,
    Tell,
    Up,
    Withdraw,
)
from forkserve.supervision.plan import StepKind, next_step
from forkserve.supervision.snapshot import WatcherSnapshot
from forkserve.wording import count_of, signal_name

__all__ = ["Advance", "Job", "JobPhase", "Kill", "Reload", "Resize", "Restart", "Start", "Stop", "advance"]


class JobPhase(Enum):
    """How far a job has come; the phases that begin with BACK undo a reload."""

    NEW = "new"
    REHEARSING = "rehearsing"
    DELAYING = "delaying"
    STOPPING = "stopping"
    AWAITING = "awaiting"
    STARTING = "starting"
    ROLLING = "rolling"
    BACK_ROLLING = "back, rolling"
    BACK_STOPPING = "back, stopping"
    BACK_STARTING = "back, starting"


@dataclass(frozen=True, slots=True)
class Start:
    """Run a watcher, and be done when all its processes are ready, or have been given up."""

    name: ClassVar[str] = "start"
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a watcher, and be done when nothing of it is left; `closing` tells that its sockets close behind it."""

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
    """Replace the processes of a watcher, with `offer` 0 by others of the same command; `target` None keeps how many.

    `before` is the generation to go back to, `target_before` its number of processes; `failures` is what the watcher
    had counted when the new generation began, `kept` how many had not been replaced when it failed, `reason` why.
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


@dataclass(frozen=True, slots=True)
class Resize:
    """Have another number of processes; it runs beside whatever else goes on."""

    name: ClassVar[str] = "resize"
    target: int
    phase: JobPhase = JobPhase.NEW


@dataclass(frozen=True, slots=True)
class Kill:
    """End some processes, by `signum` and after `timeout` seconds by SIGKILL (None: as configured); others follow them.

    It runs beside whatever else goes on, and is done when they have ended.
    """

    name: ClassVar[str] = "kill"
    pids: tuple[int, ...]
    signum: int | None = None
    timeout: float | None = None
    phase: JobPhase = JobPhase.NEW


Job = Start | Stop | Restart | Reload | Resize | Kill


@dataclass(frozen=True, slots=True)
class Advance:
    """A job as it goes on, and what is to be done; `done` or `failed` says, in a line, that and how it is over."""

    job: Job
    effects: tuple[JobEffect, ...] = ()
    done: str | None = None
    failed: str | None = None


def advance(job: Job, seen: WatcherSnapshot) -> Advance:
    """Return how a job goes on, given its watcher as it is now."""
    if isinstance(job, Start):
        return _start(job, seen)
    if isinstance(job, Stop):
        return _stop(job, seen)
    if isinstance(job, Restart):
        return _restart(job, seen)
    if isinstance(job, Resize):
        return _resize(job, seen)
    if isinstance(job, Kill):
        return _kill(job, seen)
    return _RELOAD[job.phase](job, seen)


def _running(job: Job, seen: WatcherSnapshot) -> Advance:
    """Say what runs once nothing is under way; a slot that was given up is a failure."""
    if not seen.is_settled:
        return Advance(job)
    if seen.given_up:
        wid, reason = seen.given_up[0]
        what = f"{count_of(len(seen.given_up))} of {len(seen.slots)} given up"
        return Advance(job, failed=f"{seen.name}: {what}; {seen.name}[{wid}] {reason}")
    return Advance(job, done=f"{seen.name}: {count_of(seen.ready)} running")


def _kill(job: Kill, seen: WatcherSnapshot) -> Advance:
    if job.phase is JobPhase.NEW:
        return Advance(replace(job, phase=JobPhase.STOPPING), (EndProcesses(job.pids, job.signum, job.timeout),))
    left = seen.pids.intersection(job.pids)
    return Advance(job) if left else Advance(job, done=f"{seen.name}: {count_of(len(job.pids))} ended")


def _started(job: Job, seen: WatcherSnapshot) -> Advance:
    """Say of a start that is over how many are ready, as a fact too."""
    found = _running(job, seen)
    if found.done is None:
        return found
    return replace(found, effects=(Tell(WatcherStarted(watcher=seen.name, processes=seen.ready)),))


def _awaiting(job: Start | Restart, seen: WatcherSnapshot) -> Advance:
    """Return how a job waits until all is ready that its watcher comes after, and then starts it."""
    if not seen.awaits:
        afresh: tuple[JobEffect, ...] = (OpenGeneration(0),) if isinstance(job, Restart) else ()
        return Advance(replace(job, phase=JobPhase.STARTING), (*afresh, Up()))
    if job.phase is JobPhase.AWAITING:
        return Advance(job)
    told = WatcherAwaits(watcher=seen.name, awaited=seen.awaits)
    return Advance(replace(job, phase=JobPhase.AWAITING), (Tell(told),))


def _start(job: Start, seen: WatcherSnapshot) -> Advance:
    if job.phase is JobPhase.STARTING:
        return _started(job, seen)
    if seen.unmet and not seen.up:
        return Advance(job, failed=f"{seen.name} starts after {seen.unmet}")
    return _awaiting(job, seen) if not seen.up else Advance(replace(job, phase=JobPhase.STARTING), (Up(),))


_DOWN = TakeDown()


def _delaying(job: Stop | Restart, seen: WatcherSnapshot) -> Advance | None:
    """Return how a job waits before it takes its watcher down; None when it is time."""
    if job.phase is JobPhase.NEW and seen.drain_delay > 0 and seen.up and seen.processes:
        told = WatcherDelayed(watcher=seen.name, seconds=seen.drain_delay)
        return Advance(replace(job, phase=JobPhase.DELAYING), (Tell(told), Delay(seen.drain_delay)))
    return Advance(job) if job.phase is JobPhase.DELAYING and seen.delayed else None


def _taking_down(seen: WatcherSnapshot, how: TakeDown = _DOWN) -> tuple[JobEffect, ...]:
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


def _stop(job: Stop, seen: WatcherSnapshot) -> Advance:
    delayed = _delaying(job, seen)
    if delayed is not None:
        return delayed
    if job.phase is not JobPhase.STOPPING:
        how = TakeDown(finish=True, closing=job.closing)
        return Advance(replace(job, phase=JobPhase.STOPPING), _taking_down(seen, how))
    if not seen.is_gone:
        return Advance(job)
    return Advance(job, (Tell(WatcherStopped(watcher=seen.name, done=True)),), done=f"{seen.name}: stopped")


def _restart(job: Restart, seen: WatcherSnapshot) -> Advance:
    delayed = _delaying(job, seen)
    if delayed is not None:
        return delayed
    if job.phase in (JobPhase.NEW, JobPhase.DELAYING):
        return Advance(Restart(JobPhase.STOPPING), _taking_down(seen))
    if job.phase in (JobPhase.STOPPING, JobPhase.AWAITING):
        return _restart_gone(job, seen) if seen.is_gone else Advance(job)
    return _started(job, seen)


def _restart_gone(job: Restart, seen: WatcherSnapshot) -> Advance:
    found = _awaiting(job, seen)
    if job.phase is not JobPhase.STOPPING:
        return found
    return replace(found, effects=(Tell(WatcherStopped(watcher=seen.name, done=True)), *found.effects))


def _resize(job: Resize, seen: WatcherSnapshot) -> Advance:
    if job.phase is JobPhase.NEW:
        if seen.singleton and job.target > 1:
            return Advance(job, failed=f"{seen.name} is a singleton: it has one process at most")
        told = WatcherResized(watcher=seen.name, before=seen.target, after=job.target)
        return Advance(Resize(job.target, JobPhase.STARTING), (Tell(told), SetTarget(job.target)))
    if not seen.up:
        return Advance(job, done=f"{seen.name}: {count_of(seen.target)} when it is started")
    return _running(job, seen)


# The phases of a reload.


def _reload(job: Reload, seen: WatcherSnapshot) -> Advance:
    if not seen.up:
        return Advance(job, (Withdraw(job.offer),), failed=f"{seen.name} is stopped: start it")
    if seen.send_hup and not job.offer:
        return Advance(job, (SendHup(),), done=f"{seen.name}: SIGHUP sent")
    begun = replace(job, before=seen.generation, target_before=seen.target, failures=seen.failures)
    if not seen.side_by_side:
        return Advance(replace(begun, phase=JobPhase.REHEARSING), (Rehearse(job.offer),))
    told = ReloadBegun(watcher=seen.name, generation=seen.newest + 1, processes=len(seen.slots))
    effects = (OpenGeneration(job.offer), Tell(told), *_new_target(job), Revive())
    return Advance(replace(begun, phase=JobPhase.ROLLING), effects)


def _new_target(job: Reload) -> tuple[JobEffect, ...]:
    return () if job.target is None else (SetTarget(job.target),)


def _rehearsed(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.rehearsed is None:
        return Advance(job)
    if seen.rehearsed:
        told = _failure(replace(job, reason=seen.rehearsed), seen)
        return Advance(job, (Withdraw(job.offer), Tell(told)), failed=told.text())
    return Advance(replace(job, phase=JobPhase.STOPPING), _taking_down(seen))


def _stopped_first(job: Reload, seen: WatcherSnapshot) -> Advance:
    if not seen.is_gone:
        return Advance(job)
    going_on = replace(job, phase=JobPhase.STARTING, failures=seen.failures)
    return Advance(going_on, (OpenGeneration(job.offer), *_new_target(job), Up()))


def _started_after(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures <= job.failures:
        return _running(job, seen)
    back = replace(job, phase=JobPhase.BACK_STOPPING, reason=seen.last_failure)
    return Advance(back, (*_back(job), TakeDown()))


def _back(job: Reload) -> tuple[JobEffect, ...]:
    target: tuple[JobEffect, ...] = () if job.target is None else (SetTarget(job.target_before),)
    return (PutBack(job.before), *target)


def _roll(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures > job.failures:
        kept = sum(slot.generation not in (0, seen.generation) for slot in seen.slots)
        back = replace(job, phase=JobPhase.BACK_ROLLING, reason=seen.last_failure, failures=seen.failures, kept=kept)
        return Advance(back, _back(job))
    replaced = sum(slot.generation == seen.generation and not slot.starting for slot in seen.slots)
    going_on, told = _progress(job, replaced, seen)
    step = next_step(seen.slots, seen.generation)
    if step.kind is StepKind.REPLACE:
        return Advance(going_on, (*told, Replace(step.wid)))
    if step.kind is StepKind.WAIT or not seen.is_settled:
        return Advance(going_on, told)
    if seen.given_up:  # for failures of processes from before the roll, which say nothing of the new ones
        return Advance(going_on, (*told, Revive()))
    done = ReloadDone(watcher=seen.name, generation=seen.generation, processes=len(seen.slots))
    return Advance(going_on, (*told, Tell(done)), done=f"{seen.name}: {count_of(len(seen.slots))} replaced")


def _progress(job: Reload, replaced: int, seen: WatcherSnapshot) -> tuple[Reload, tuple[JobEffect, ...]]:
    if replaced <= job.replaced:
        return job, ()
    told = ReloadStep(
        watcher=seen.name, generation=seen.generation, replaced=replaced, processes=max(replaced, len(seen.slots))
    )
    return replace(job, replaced=replaced), (Tell(told),)


def _roll_back(job: Reload, seen: WatcherSnapshot) -> Advance:
    step = next_step(seen.slots, job.before)
    if seen.failures <= job.failures:
        if step.kind is StepKind.REPLACE:
            return Advance(job, (Replace(step.wid),))
        if step.kind is StepKind.WAIT:
            return Advance(job)
    return _give_up(job, seen)


def _stop_back(job: Reload, seen: WatcherSnapshot) -> Advance:
    if not seen.is_gone:
        return Advance(job)
    return Advance(replace(job, phase=JobPhase.BACK_STARTING, failures=seen.failures), (Up(),))


def _start_back(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures <= job.failures and not seen.is_settled:
        return Advance(job)
    return _give_up(job, seen)


def _give_up(job: Reload, seen: WatcherSnapshot) -> Advance:
    told = _failure(job, seen)
    return Advance(job, (Tell(told),), failed=told.text())


def _failure(job: Reload, seen: WatcherSnapshot) -> ReloadFailed:
    of_before = sum(slot.generation == job.before for slot in seen.slots)
    kept = min(job.kept, of_before) if job.phase is not JobPhase.REHEARSING else of_before
    reason = job.reason
    if job.phase is not JobPhase.REHEARSING and seen.failures > job.failures:
        reason = f"{reason}; what was replaced cannot be put back: {seen.last_failure}"
    return ReloadFailed(watcher=seen.name, generation=job.before, kept=kept, put_back=of_before - kept, reason=reason)


_RELOAD: Mapping[JobPhase, Callable[[Reload, WatcherSnapshot], Advance]] = {
    JobPhase.NEW: _reload,
    JobPhase.REHEARSING: _rehearsed,
    JobPhase.STOPPING: _stopped_first,
    JobPhase.STARTING: _started_after,
    JobPhase.ROLLING: _roll,
    JobPhase.BACK_ROLLING: _roll_back,
    JobPhase.BACK_STOPPING: _stop_back,
    JobPhase.BACK_STARTING: _start_back,
}
