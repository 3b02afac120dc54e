"""The progress of a job on a watcher, in a line for the person that waits for it.

Rules: reads a queue and changes nothing.
"""

from __future__ import annotations

from forkserve.supervision.generations.canary import Trial
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.job import JobPhase, Reload
from forkserve.supervision.watcher import Watcher
from forkserve.wording import human_duration

__all__ = ["progress_of"]


def progress_of(queue: JobQueue, now: float) -> str:
    """Return the progress of a reload, or an empty text if there is none."""
    job = None if queue.current is None else queue.current.job
    if not isinstance(job, Reload):
        return ""
    watcher = queue.watcher
    if job.phase is JobPhase.WATCHING and watcher.canary.trial is not None:
        return _compared(watcher.canary.trial, job.slots, watcher, now)
    slots = watcher.slots.values()
    if job.phase is JobPhase.ROLLING:
        done = [slot for slot in slots if slot.is_ready and _generation(slot.occupant) == watcher.generation]
        total = len(job.slots) if job.is_trial else len(slots)
        return f"{len(done)} of {total} {'of the canary ' if job.is_trial else ''}replaced{_awaited(watcher, now)}"
    if job.phase is JobPhase.BACK_ROLLING:
        left = sum(_generation(slot.occupant) != job.before for slot in slots)
        return f"{job.reason}; {left} to be put back{_awaited(watcher, now)}"
    return f"{job.phase.value}{_awaited(watcher, now)}"


def _generation(process: object) -> int:
    return int(getattr(process, "generation", 0))


def _awaited(watcher: Watcher, now: float) -> str:
    """Return what has been starting for the longest time."""
    starting = [each for each in watcher.processes if each.ready_at is None and not each.is_asked_to_end]
    slow = min(starting, key=lambda each: each.started_at, default=None)
    if slow is None:
        return ""
    name = f"the zygote of {watcher.name}" if slow.is_zygote else f"{watcher.name}[{slow.wid}]"
    return f", {name} waits to be ready ({human_duration(now - slow.started_at)})"


def _compared(trial: Trial, slots: tuple[int, ...], watcher: Watcher, now: float) -> str:
    old, new = trial.seen
    names = ", ".join(f"{watcher.name}[{wid}]" for wid in slots)
    time = f"{now - trial.began:.0f} of {trial.until - trial.began:g} s"
    share = f"{new.error_share:.1%} of {new.requests} requests answered by 5xx"
    return f"canary {names} compared for {time}: {share} ({old.error_share:.1%} of {old.requests} before)"
