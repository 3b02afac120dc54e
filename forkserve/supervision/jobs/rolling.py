"""How a reload continues: the processes of a watcher are replaced, if possible without a gap.

Theory of operation. Some processes at a time are replaced, as `RollPace` says: start the new, wait until it is ready,
then drain the old, or the other way round. Where old and new may not run at once all are stopped first, after a
rehearsal of the new. With a canary the new generation is confined to some slots until it has been compared with the
others (`verdict`). The first failure reverses a reload, and so does the verdict: what was replaced is replaced again by
the generation before, so two generations never stay.

Rules: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from forkserve.supervision.events import (
    CanaryBegun,
    CanaryJudged,
    ReloadBegun,
    ReloadDone,
    ReloadFailed,
    ReloadStep,
)
from forkserve.supervision.jobs.effects import (
    Approve,
    CompareGenerations,
    Confine,
    JobEffect,
    OpenGeneration,
    PutBack,
    Rehearse,
    Replace,
    Revive,
    SendHup,
    SetTarget,
    StopFirst,
    TakeDown,
    Tell,
    Unconfine,
    Up,
    Withdraw,
)
from forkserve.supervision.jobs.job import Advance, JobPhase, Reload, running, taking_down
from forkserve.supervision.jobs.pace import RollPace, Step, StepKind, next_step
from forkserve.supervision.jobs.snapshot import WatcherSnapshot
from forkserve.supervision.jobs.verdict import CanaryOutcome
from forkserve.supervision.snapshot import SlotSnapshot
from forkserve.wording import count_of

__all__ = ["roll"]


def roll(job: Reload, seen: WatcherSnapshot) -> Advance:
    """Return how a reload continues, given its watcher as it is now."""
    return _PHASES[job.phase](job, seen)


def _reload(job: Reload, seen: WatcherSnapshot) -> Advance:
    if not seen.up:
        return Advance(job, (Withdraw(job.offer),), failed=f"{seen.name} is stopped: start it")
    if seen.send_hup and not job.offer:
        return Advance(job, (SendHup(),), done=f"{seen.name}: SIGHUP sent")
    refused = _no_canary(job, seen) if job.canary else ""
    if refused:
        return Advance(job, (Withdraw(job.offer),), failed=refused)
    begun = replace(job, before=seen.generation, target_before=seen.target, failures=seen.failures)
    if seen.timer is not None and not job.offer and not job.back_to:
        return Advance(job, done=f"{seen.name}: each run starts afresh, there is nothing to replace")
    if not seen.side_by_side or job.back_to or seen.timer is not None or seen.waiting:
        return Advance(replace(begun, phase=JobPhase.REHEARSING), (Rehearse(job.offer),))
    return _begin(begun, seen)


def _begin(job: Reload, seen: WatcherSnapshot) -> Advance:
    told = ReloadBegun(watcher=seen.name, generation=seen.newest + 1, processes=len(seen.slots), back_to=job.back_to)
    going_on = replace(job, phase=JobPhase.ROLLING, failures=seen.failures)
    confined: tuple[JobEffect, ...] = ()
    if job.canary:
        extra = max(job.canary + 1 - seen.target, 0)
        last = seen.target + extra
        slots = tuple(range(last - job.canary + 1, last + 1))
        going_on = replace(going_on, extra=extra, slots=slots)
        more = (SetTarget(last),) if extra else ()
        confined = (Confine(slots, job.before), *more)
    effects = (_open(job), Tell(told), *_new_target(job), *confined, Revive())
    return Advance(going_on, effects)


def _no_canary(job: Reload, seen: WatcherSnapshot) -> str:
    """Return why there can be no canary, or an empty text."""
    if seen.send_hup:
        return f"{seen.name} reloads by SIGHUP (send_hup), which all of its processes get: no canary"
    if seen.timer is not None or seen.waiting:
        why = "has a schedule" if seen.timer is not None else "waits for a connection"
        return f"{seen.name} {why}: no canary can run beside a run"
    if seen.singleton:
        return f"{seen.name} is a singleton: no canary can run beside it"
    if not seen.side_by_side:
        return f"{seen.name} has one process, and no socket to share with a canary: no canary can run beside it"
    missing = job.canary + 1 - seen.target
    if missing <= 0 or missing <= seen.spare:
        return ""
    return (
        f"{seen.name} has {count_of(seen.target)}, a canary of {job.canary} leaves no old process to compare it with: "
        f"have {job.canary + 1} (numprocesses), or max_surge = {missing}"
    )


def _open(job: Reload) -> OpenGeneration:
    return OpenGeneration(job.offer, back_to=job.back_to)


def _new_target(job: Reload) -> tuple[JobEffect, ...]:
    return () if job.target is None else (SetTarget(job.target),)


def _rehearsed(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.rehearsed is None:
        return Advance(job)
    if seen.rehearsed:
        told = _failure(replace(job, reason=seen.rehearsed), seen)
        return Advance(job, (Withdraw(job.offer), Tell(told)), failed=told.text())
    if seen.timer is not None:
        going_on = replace(job, phase=JobPhase.RUNNING, failures=seen.failures)
        return Advance(going_on, (_open(job), *_new_target(job)))
    if seen.waiting:
        done = f"{seen.name}: waiting for a connection, which starts the new command"
        return Advance(job, (_open(job), *_new_target(job), _approve(job)), done=done)
    if seen.side_by_side:
        return _begin(job, seen)
    return Advance(replace(job, phase=JobPhase.STOPPING), taking_down(seen))


def _stopped_first(job: Reload, seen: WatcherSnapshot) -> Advance:
    if not seen.is_gone:
        return Advance(job)
    # the number may have been changed meanwhile; a singleton has one at most
    if seen.target != job.target_before and (job.target or 0) > 1:
        job = replace(job, target=None)
    going_on = replace(job, phase=JobPhase.STARTING, failures=seen.failures)
    return Advance(going_on, (_open(job), *_new_target(job), Up()))


def _after_timer(job: Reload, seen: WatcherSnapshot) -> Advance:
    """Return how the reload of a timer ends: a run in progress is left alone; without a schedule, processes are
    started.
    """
    if seen.timer is not None:
        return Advance(job, (_approve(job),), done=f"{seen.name}: the next run has the new command")
    return _started_after(replace(job, phase=JobPhase.STARTING), seen)


def _started_after(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures <= job.failures:
        found = running(job, seen)
        return found if found.done is None else replace(found, effects=(_approve(job),))
    back = replace(job, phase=JobPhase.BACK_STOPPING, reason=seen.last_failure)
    return Advance(back, (*_back(job, seen), TakeDown()))


def _back(job: Reload, seen: WatcherSnapshot) -> tuple[JobEffect, ...]:
    """Return the effects of going back; a number of processes that was changed meanwhile stays."""
    is_ours = job.target is not None and seen.target - job.extra == job.target
    target: tuple[JobEffect, ...] = (SetTarget(job.target_before),) if is_ours else ()
    return (PutBack(job.before), *target)


def _turn_round(job: Reload, seen: WatcherSnapshot, reason: str) -> Advance:
    kept = sum(slot.generation not in (0, seen.generation) for slot in seen.slots)
    back = replace(job, phase=JobPhase.BACK_ROLLING, reason=reason, failures=seen.failures, kept=kept, extra=0)
    fewer = (SetTarget(seen.target - job.extra),) if job.extra else ()
    return Advance(back, (*fewer, *_back(job, seen), Revive()))


def _roll(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures > job.failures:
        return _turn_round(job, seen, seen.last_failure)
    replaced = sum(slot.serves == seen.generation for slot in seen.slots)
    going_on, told = _progress(job, replaced, seen)
    if job.is_trial:
        return _roll_canary(going_on, told, seen)
    pace = RollPace(surge=max(len(seen.slots), 1)) if job.at_once else seen.pace
    step = next_step(seen.slots, seen.generation, pace)
    if step.kind in (StepKind.REPLACE, StepKind.STOP_FIRST):
        return Advance(going_on, (*told, _effect(step, seen)))
    if step.kind is StepKind.WAIT or not seen.has_started:
        return Advance(going_on, told)
    return _all_rolled(going_on, told, seen)


def _all_rolled(job: Reload, told: tuple[JobEffect, ...], seen: WatcherSnapshot) -> Advance:
    if job.extra:
        return Advance(replace(job, extra=0), (*told, SetTarget(seen.target - job.extra)))
    if seen.given_up:  # for failures of processes from before the roll, which say nothing of the new ones
        return Advance(job, (*told, Revive()))
    if seen.leaving:  # else a client that asks after the answer may still meet the old code
        return Advance(job, told)
    done = ReloadDone(watcher=seen.name, generation=seen.generation, processes=len(seen.slots), back_to=job.back_to)
    back = f", back to generation {job.back_to}" if job.back_to else ""
    result = f"{seen.name}: {count_of(len(seen.slots))} replaced{back}"
    return Advance(job, (*told, _approve(job), Tell(done)), done=result)


def _approve(job: Reload) -> Approve:
    """Note that the reload has completed; generations that were left, or are current again, are no targets of a
    rollback.
    """
    return Approve(instead_of=(job.back_to, job.before) if job.back_to else ())


def _effect(step: Step, seen: WatcherSnapshot) -> JobEffect:
    """Return how a slot gets its next process; a change that came meanwhile may have made the watcher a singleton."""
    is_beside = step.kind is StepKind.REPLACE and not seen.singleton
    return Replace(step.wid) if is_beside else StopFirst(step.wid)


def _roll_canary(job: Reload, told: tuple[JobEffect, ...], seen: WatcherSnapshot) -> Advance:
    """Return how the slots of a canary get the new generation, and when the comparison begins."""
    slots = _canaries(job, seen)
    if len(slots) < job.canary:
        return _turn_round(job, seen, "a slot of the canary was taken away (decr, stop)")
    step = next_step(slots, seen.generation, seen.pace)
    if step.kind in (StepKind.REPLACE, StepKind.STOP_FIRST):
        return Advance(job, (*told, _effect(step, seen)))
    if any(slot.serves != seen.generation for slot in slots):
        return Advance(job, told)
    begun = CanaryBegun(watcher=seen.name, generation=seen.generation, slots=job.slots, seconds=job.watch)
    watching = replace(job, phase=JobPhase.WATCHING)
    # its start may have given way to this reload before it was through
    serves = any(slot.serves == job.before for slot in seen.slots)
    good = (Approve(job.before),) if serves else ()
    return Advance(watching, (*told, *good, Tell(begun), CompareGenerations(job.before, job.watch)))


def _canaries(job: Reload, seen: WatcherSnapshot) -> list[SlotSnapshot]:
    return [slot for slot in seen.slots if slot.wid in job.slots and not slot.finished]


def _watch(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures > job.failures:
        return _turn_round(job, seen, f"the canary failed: {seen.last_failure}")
    if len(_canaries(job, seen)) < job.canary:
        return _turn_round(job, seen, "a slot of the canary was taken away (decr, stop)")
    verdict = seen.verdict
    if verdict is None:
        return Advance(job, (CompareGenerations(job.before, job.watch),))
    if verdict.outcome is CanaryOutcome.OPEN:
        return Advance(job)
    told = _judged(verdict.outcome is CanaryOutcome.PROMOTE, seen)
    if verdict.outcome is CanaryOutcome.PROMOTE:
        return Advance(replace(job, phase=JobPhase.ROLLING, promoted=True), (told, Unconfine()))
    back = _turn_round(replace(job, condemned=True), seen, f"the canary is worse: {verdict.reason}")
    return replace(back, effects=(told, *back.effects))


def _judged(promoted: bool, seen: WatcherSnapshot) -> Tell:
    assert seen.verdict is not None
    old, new = seen.compared
    p99 = [each.quantile(0.99) for each in (old, new)]
    return Tell(
        CanaryJudged(
            watcher=seen.name,
            generation=seen.generation,
            promoted=promoted,
            reason=seen.verdict.reason,
            requests=(old.requests, new.requests),
            errors=(old.errors, new.errors),
            crashes=(old.crashes, new.crashes),
            p99=(_finite(p99[0]), _finite(p99[1])),
            memory=(old.memory, new.memory),
        )
    )


def _finite(seconds: float) -> float:
    return seconds if seconds != float("inf") else -1.0


def _progress(job: Reload, replaced: int, seen: WatcherSnapshot) -> tuple[Reload, tuple[JobEffect, ...]]:
    if replaced <= job.replaced:
        return job, ()
    told = ReloadStep(
        watcher=seen.name, generation=seen.generation, replaced=replaced, processes=max(replaced, len(seen.slots))
    )
    return replace(job, replaced=replaced), (Tell(told),)


def _roll_back(job: Reload, seen: WatcherSnapshot) -> Advance:
    step = next_step(seen.slots, job.before, seen.pace)
    if seen.failures <= job.failures:
        if step.kind in (StepKind.REPLACE, StepKind.STOP_FIRST):
            return Advance(job, (_effect(step, seen),))
        if step.kind is StepKind.WAIT:
            return Advance(job)
    return _give_up(job, seen)


def _stop_back(job: Reload, seen: WatcherSnapshot) -> Advance:
    if not seen.is_gone:
        return Advance(job)
    return Advance(replace(job, phase=JobPhase.BACK_STARTING, failures=seen.failures), (Up(),))


def _start_back(job: Reload, seen: WatcherSnapshot) -> Advance:
    if seen.failures <= job.failures and not seen.has_started:
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
    return ReloadFailed(
        watcher=seen.name,
        generation=job.before,
        kept=kept,
        put_back=of_before - kept,
        reason=reason,
        condemned=job.condemned,
    )


_PHASES: Mapping[JobPhase, Callable[[Reload, WatcherSnapshot], Advance]] = {
    JobPhase.NEW: _reload,
    JobPhase.REHEARSING: _rehearsed,
    JobPhase.STOPPING: _stopped_first,
    JobPhase.STARTING: _started_after,
    JobPhase.RUNNING: _after_timer,
    JobPhase.ROLLING: _roll,
    JobPhase.WATCHING: _watch,
    JobPhase.BACK_ROLLING: _roll_back,
    JobPhase.BACK_STOPPING: _stop_back,
    JobPhase.BACK_STARTING: _start_back,
}
