"""How a watcher looks: to a person (`view_of`), to its jobs (`snapshot_of`), and in one word (`state_of`).

Rules: reads a watcher and changes nothing.
"""

from __future__ import annotations

from forkserve.config.naming import identity_of
from forkserve.config.portions import amount_of
from forkserve.supervision.hooks.gate import GatePhase
from forkserve.supervision.jobs.pace import pace_of
from forkserve.supervision.jobs.snapshot import NOTHING_COMPARED, WatcherSnapshot
from forkserve.supervision.jobs.verdict import CanaryOutcome
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.process import Process
from forkserve.supervision.snapshot import WatcherState, WatcherView, watcher_state
from forkserve.supervision.watcher import Watcher

__all__ = ["snapshot_of", "state_of", "view_of"]


def state_of(watcher: Watcher) -> WatcherState:
    """Return what a watcher is doing."""
    slots = watcher.slots.values()
    if watcher.timer.state.runs or (watcher.up and watcher.timer.exists):
        return WatcherState.ACTIVE
    if watcher.is_waiting:
        return WatcherState.WAITING if watcher.is_gone else WatcherState.STOPPING
    if watcher.up and not slots and watcher.gate.phase is GatePhase.ASKING_START:
        return WatcherState.STARTING  # before_start may wait for long
    return watcher_state(
        up=watcher.up,
        slots=[(slot.state, slot.is_ready) for slot in slots],
        processes=len(watcher.processes) + len(watcher.processes.groups),
        finished=bool(slots) and all(slot.finished for slot in slots),
        delayed=watcher.drain_until is not None,
        held=watcher.population.held,
    )


def view_of(watcher: Watcher, now: float, doing: str = "") -> WatcherView:
    """Return a view of the present, processes in order of slot and age."""
    slots = watcher.slots
    ordered = sorted(watcher.processes, key=lambda each: (each.wid, each.number))
    return WatcherView(
        name=watcher.name,
        state=state_of(watcher),
        numprocesses=watcher.target,
        restarts=watcher.population.restarts,
        generation=watcher.generation,
        processes=tuple(each.view(slots[each.wid].restarts if each.wid in slots else 0, now) for each in ordered),
        slots=tuple(slot.view(str(identity_of(watcher.options, wid)), now) for wid, slot in sorted(slots.items())),
        options=watcher.options,
        doing=doing,
        timer=watcher.timer.view(),
    )


def _is_leaving(watcher: Watcher) -> bool:
    """Tell whether a process of a former generation that was told to stop may still accept."""
    return any(each.generation != watcher.generation and _may_accept(each) for each in watcher.processes.workers)


def _may_accept(process: Process) -> bool:
    return process.is_alive and (process.leaves_by is not None or (process.end_at is not None and process.is_ready))


def snapshot_of(watcher: Watcher, offer: int = 0) -> WatcherSnapshot:
    """Return a watcher as seen by a job that wants the command offered as this number, or with 0 the one in force."""
    awaited = watcher.awaited()
    trial = watcher.canary.trial
    wanted, rehearsal, timer = watcher.templates.wanted(offer), watcher.rehearser.current, watcher.timer.snapshot()
    slots = tuple(watcher.slots.values()) if timer is None else ()
    return WatcherSnapshot(
        name=watcher.name,
        up=watcher.up,
        target=watcher.target,
        generation=watcher.generation,
        newest=watcher.templates.newest,
        is_gone=watcher.is_gone,
        has_started=watcher.has_started,
        slots=tuple(slot.snapshot() for slot in slots),
        ready=sum(slot.is_ready for slot in slots),
        given_up=tuple((slot.wid, slot.reason) for slot in slots if slot.state is SlotState.FATAL),
        processes=len(watcher.processes.workers),
        pids=watcher.processes.pids,
        failures=watcher.population.failures.count,
        last_failure=watcher.population.failures.last,
        singleton=watcher.options.singleton,
        side_by_side=watcher.runs_beside(wanted),
        send_hup=wanted.options.send_hup,
        stop_signal=watcher.options.stop_signal,
        grace=watcher.options.graceful_timeout,
        drain_delay=watcher.options.drain_delay,
        delayed=watcher.drain_until is not None,
        waiting=watcher.is_waiting,
        leaving=watcher.command.is_worker and _is_leaving(watcher),
        awaits=awaited.names,
        unmet=awaited.unmet,
        vetoed=watcher.vetoed,
        pace=pace_of(wanted.options, watcher.target),
        spare=amount_of(wanted.options.max_surge or "0", watcher.target, up=True),
        verdict=None if trial is None else trial.verdict,
        compared=NOTHING_COMPARED if trial is None or trial.verdict.outcome is CanaryOutcome.OPEN else trial.seen,
        timer=timer,
        rehearsed=None if rehearsal is None or rehearsal.offer != offer else rehearsal.verdict,
    )
