"""How work on a watcher continues: start, stop, restart, resize; a reload is in `rolling`.

Theory of operation. A job is frozen. `advance(job, snapshot)` looks at the watcher as it is now, and returns the next
state of the job, what is to be done (effects, which are data as well), and whether it is over. `jobqueue` carries the
effects out and asks again, after every event of the watcher.

Rules: pure. A job refers to generations and offers by number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from forkserve.config.schedules import Overlap
from forkserve.supervision.events import (
    WatcherAwaits,
    WatcherDelayed,
    WatcherResized,
    WatcherStarted,
    WatcherStopped,
    WatcherWaits,
)
from forkserve.supervision.jobs.effects import (
    Approve,
    BeginRun,
    Delay,
    EndProcesses,
    JobEffect,
    OpenGeneration,
    SetTarget,
    TakeDown,
    Tell,
    Up,
    Withdraw,
)
from forkserve.supervision.jobs.job import (
    Advance,
    Job,
    JobPhase,
    Kill,
    Reload,
    Resize,
    Restart,
    RunOnce,
    SlotJob,
    Start,
    Stop,
    running,
    taking_down,
)
from forkserve.supervision.jobs.oneslot import advance_slot
from forkserve.supervision.jobs.rolling import roll
from forkserve.supervision.jobs.snapshot import WatcherSnapshot
from forkserve.supervision.snapshot import TimerSnapshot
from forkserve.wording import count_of

__all__ = [
    "Advance",
    "Job",
    "JobPhase",
    "Kill",
    "Reload",
    "Resize",
    "Restart",
    "RunOnce",
    "SlotJob",
    "Start",
    "Stop",
    "advance",
]


def advance(job: Job, seen: WatcherSnapshot) -> Advance:
    """Return how a job continues, given its watcher as it is now."""
    if seen.vetoed and isinstance(job, Start | Restart | Reload) and job.phase is not JobPhase.NEW:
        withdrawn = (Withdraw(job.offer),) if isinstance(job, Reload) else ()
        return Advance(job, withdrawn, failed=f"{seen.name}: {seen.vetoed}")
    return _ADVANCES[type(job)](job, seen)


def _kill(job: Kill, seen: WatcherSnapshot) -> Advance:
    if job.phase is JobPhase.NEW:
        return Advance(replace(job, phase=JobPhase.STOPPING), (EndProcesses(job.pids, job.signum, job.timeout),))
    left = seen.pids.intersection(job.pids)
    return Advance(job) if left else Advance(job, done=f"{seen.name}: {count_of(len(job.pids))} ended")


def _run(job: RunOnce, seen: WatcherSnapshot) -> Advance:
    timer = seen.timer
    if timer is None:
        return Advance(job, failed=f"{seen.name} has no schedule, and runs all the time: start it, or restart it")
    if job.phase is JobPhase.RUNNING:
        result = next((each for each in timer.results if each.number == job.number), None)
        if result is None and job.number in timer.running:
            return Advance(job)
        if result is None:
            return Advance(job, failed=f"{seen.name}: run {job.number} is over, and its result was not kept")
        return Advance(job, done=f"{seen.name}: {result.text()}", code=result.exit_code)
    return _run_soon(job, seen, timer)


def _run_soon(job: RunOnce, seen: WatcherSnapshot, timer: TimerSnapshot) -> Advance:
    if job.phase is JobPhase.AWAITING and not seen.up:
        return Advance(job, failed=f"{seen.name} was stopped before its run began")
    if timer.running and timer.overlap is Overlap.SKIP:
        return Advance(job, failed=f"{seen.name}: run {timer.running[0]} goes on, and overlap = skip")
    if timer.running and timer.overlap is Overlap.QUEUE:
        return Advance(replace(job, phase=JobPhase.AWAITING))
    return Advance(RunOnce(timer.made + 1, JobPhase.RUNNING), (BeginRun(),))


def _started(job: Job, seen: WatcherSnapshot) -> Advance:
    """Return the end of a start, with the number of ready processes, as an event too."""
    found = running(job, seen)
    if found.done is None:
        return found
    told = WatcherWaits(watcher=seen.name) if seen.waiting else WatcherStarted(watcher=seen.name, processes=seen.ready)
    return replace(found, effects=(Approve(), Tell(told)))


def _awaiting(job: Start | Restart, seen: WatcherSnapshot) -> Advance:
    """Return how a job waits until every watcher that its own depends on is ready, and then starts it."""
    if not seen.awaits:
        afresh: tuple[JobEffect, ...] = (OpenGeneration(0, follow=False),) if isinstance(job, Restart) else ()
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


def _delaying(job: Stop | Restart, seen: WatcherSnapshot) -> Advance | None:
    """Return how a job waits before it takes its watcher down; None if it need not wait."""
    if job.phase is JobPhase.NEW and seen.drain_delay > 0 and seen.up and seen.processes:
        told = WatcherDelayed(watcher=seen.name, seconds=seen.drain_delay)
        return Advance(replace(job, phase=JobPhase.DELAYING), (Tell(told), Delay(seen.drain_delay)))
    return Advance(job) if job.phase is JobPhase.DELAYING and seen.delayed else None


def _stop(job: Stop, seen: WatcherSnapshot) -> Advance:
    delayed = _delaying(job, seen)
    if delayed is not None:
        return delayed
    if job.phase is not JobPhase.STOPPING:
        how = TakeDown(finish=True, closing=job.closing)
        return Advance(replace(job, phase=JobPhase.STOPPING), taking_down(seen, how))
    if not seen.is_gone:
        return Advance(job)
    return Advance(job, (Tell(WatcherStopped(watcher=seen.name, done=True)),), done=f"{seen.name}: stopped")


def _restart(job: Restart, seen: WatcherSnapshot) -> Advance:
    delayed = _delaying(job, seen)
    if delayed is not None:
        return delayed
    if job.phase in (JobPhase.NEW, JobPhase.DELAYING):
        return Advance(Restart(JobPhase.STOPPING), taking_down(seen))
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
        if seen.timer is not None:
            return Advance(job, failed=f"{seen.name} has a schedule: each run is one process")
        if seen.singleton and job.target > 1:
            return Advance(job, failed=f"{seen.name} is a singleton: it has at most one process")
        told = WatcherResized(watcher=seen.name, before=seen.target, after=job.target)
        return Advance(Resize(job.target, JobPhase.STARTING), (Tell(told), SetTarget(job.target)))
    if not seen.up:
        return Advance(job, done=f"{seen.name}: {count_of(seen.target)} when it is started")
    return running(job, seen)


_ADVANCES: Mapping[type[Job], Callable[[Any, WatcherSnapshot], Advance]] = {
    Start: _start,
    Stop: _stop,
    Restart: _restart,
    Reload: roll,
    Resize: _resize,
    Kill: _kill,
    RunOnce: _run,
    SlotJob: advance_slot,
}
