"""How a stop, a start or a restart of one slot continues; the other slots of its watcher go on.

Rules: pure.
"""

from __future__ import annotations

from dataclasses import replace

from forkserve.supervision.jobs.effects import FillSlot, VacateSlot
from forkserve.supervision.jobs.job import Advance, JobPhase, SlotJob
from forkserve.supervision.jobs.snapshot import WatcherSnapshot
from forkserve.supervision.lifecycle import SlotState

__all__ = ["advance_slot"]


def advance_slot(job: SlotJob, seen: WatcherSnapshot) -> Advance:
    """Return how it continues, given the watcher as it is now."""
    runs = seen.up and not seen.waiting and job.wid <= seen.target
    if job.phase is JobPhase.NEW and job.stops:
        # one that does not run has no slots; its processes are stopping
        return Advance(replace(job, phase=JobPhase.STOPPING), (VacateSlot(job.wid),) if runs else ())
    if job.phase is JobPhase.STOPPING and seen.pids.intersection(job.pids):
        return Advance(job)
    if job.phase is JobPhase.STOPPING and not job.starts:
        return Advance(job, done=f"{job.place}: stopped")
    if job.phase is not JobPhase.STARTING:
        return _begin(job, seen)
    return _starting(job, seen)


def _begin(job: SlotJob, seen: WatcherSnapshot) -> Advance:
    if not seen.up or seen.waiting:
        why = "waits for a connection" if seen.up else "is stopped: start it"
        return Advance(job, failed=f"{seen.name} {why}")
    if seen.timer is not None:
        return Advance(job, failed=f"{seen.name} has a schedule meanwhile")
    if job.wid > seen.target:
        return Advance(job, failed=f"{job.place} was taken away meanwhile")
    return Advance(replace(job, phase=JobPhase.STARTING), (FillSlot(job.wid),))


def _starting(job: SlotJob, seen: WatcherSnapshot) -> Advance:
    slot = next((each for each in seen.slots if each.wid == job.wid), None)
    comes = seen.up and not seen.waiting and seen.timer is None and job.wid <= seen.target
    if slot is None and not comes:
        return Advance(job, failed=f"{job.place} was stopped meanwhile")
    if slot is None or slot.starting or slot.state is SlotState.BACKOFF:
        return Advance(job)
    if slot.state is SlotState.FATAL:
        reason = next((reason for wid, reason in seen.given_up if wid == job.wid), "")
        return Advance(job, failed=f"{job.place}: {reason or 'given up'}")
    if slot.state is SlotState.VACANT and not slot.finished:
        return Advance(job)
    if slot.stopped:
        return Advance(job, failed=f"{job.place} was stopped meanwhile")
    return Advance(job, done=f"{job.place}: {'restarted' if job.stops else 'started'}")
