"""What a reload has to do: which watchers and sockets differ, and which process is replaced next.

Rules: pure. `plan` compares two configurations whole, before anything is touched. `next_step` is asked after every
event of a roll, and never lets more processes of a watcher be under way than its pace says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from forkserve.config.model import Config, MasterOptions, WatcherOptions
from forkserve.config.options import ReloadCost, options_of
from forkserve.config.placeholders import sockets_for
from forkserve.config.portions import amount_of
from forkserve.supervision.lifecycle import SlotState

__all__ = [
    "ONE_BY_ONE",
    "RollPace",
    "Plan",
    "SlotSnapshot",
    "Step",
    "StepKind",
    "WatcherChange",
    "next_step",
    "pace_of",
    "plan",
    "uses",
]

_RESPAWN_FIELDS = ("env", "rlimits", "stdout_stream", "stderr_stream")
"""What readers derive from several keys, and what only a new process takes over."""

_LIVE_FIELDS = ("hooks", "extra")


@dataclass(frozen=True, slots=True)
class WatcherChange:
    """A watcher that stays. `live` options are taken over at once, those in `respawn` by new processes only."""

    options: WatcherOptions
    live: frozenset[str] = frozenset()
    respawn: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences between two configurations; `restart` are options that only a new master can take over."""

    added: tuple[WatcherOptions, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[WatcherChange, ...] = ()
    rebound: frozenset[str] = frozenset()
    restart: tuple[str, ...] = ()


def plan(old: Config, new: Config, rebound: frozenset[str] = frozenset()) -> Plan:
    """Compare two configurations; watchers are matched by name without regard to case, as in Circus.

    `rebound` are the sockets, by lower-case name, that will be another queue: their readers must be replaced.
    """
    before = {each.name.lower(): each for each in old.watchers}
    after = {each.name.lower(): each for each in new.watchers}
    return Plan(
        added=tuple(each for name, each in after.items() if name not in before),
        removed=tuple(each.name for name, each in before.items() if name not in after),
        kept=tuple(
            _change(before[name], each, old=old, new=new, rebound=rebound)
            for name, each in after.items()
            if name in before
        ),
        rebound=rebound,
        restart=_restart(old.master, new.master),
    )


def _change(
    before: WatcherOptions, after: WatcherOptions, *, old: Config, new: Config, rebound: frozenset[str]
) -> WatcherChange:
    declared = options_of(WatcherOptions)
    live = {each.name for each in declared if each.reload is ReloadCost.LIVE and _differ(before, after, each.name)}
    live |= {name for name in _LIVE_FIELDS if _differ(before, after, name)}
    respawn = {
        each.name for each in declared if each.reload is not ReloadCost.LIVE and _differ(before, after, each.name)
    }
    respawn |= {name for name in _RESPAWN_FIELDS if _differ(before, after, name)}
    wanted = uses(after, new)
    if wanted != uses(before, old) or rebound & set(wanted):
        respawn.add("sockets")
    return WatcherChange(after, frozenset(live), frozenset(respawn))


def uses(watcher: WatcherOptions, config: Config) -> tuple[str, ...]:
    """Return the names, in lower case, of all sockets that the watcher's processes get, in order."""
    names = sockets_for(watcher, [each.name for each in config.sockets])
    also = (watcher.stdin_socket,) if watcher.stdin_socket else ()
    return tuple(name.lower() for name in (*names, *also))


def _restart(old: MasterOptions, new: MasterOptions) -> tuple[str, ...]:
    return tuple(
        each.name
        for each in options_of(MasterOptions)
        if each.reload is ReloadCost.RESTART and _differ(old, new, each.name)
    )


def _differ(before: Any, after: Any, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))


class StepKind(Enum):
    """What a roll does next."""

    REPLACE = "replace"
    STOP_FIRST = "stop first"
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a roll; REPLACE and STOP_FIRST name the slot."""

    kind: StepKind
    wid: int = 0


@dataclass(frozen=True, slots=True)
class RollPace:
    """How many processes a roll may have more than are wanted (`surge`), and how many fewer (`unavailable`)."""

    surge: int = 1
    unavailable: int = 0


ONE_BY_ONE = RollPace()


def pace_of(options: WatcherOptions, target: int) -> RollPace:
    """Return the pace of a watcher with so many processes: a percentage more is rounded up, one fewer down.

    Where both are 0 then, one fewer is allowed, as in Kubernetes. What does not start again is never stopped first.
    """
    surge = 1 if options.max_surge is None else amount_of(options.max_surge, target, up=True)
    unavailable = amount_of(options.max_unavailable, target, up=False)
    if not options.respawn:
        return RollPace(max(surge, 1), 0)
    return RollPace(surge, unavailable if surge else max(unavailable, 1))


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """One slot as a roll sees it. `generation` is that of its occupant; `starting` that a process is not ready yet,
    `surging` that this is one beside the occupant."""

    wid: int
    state: SlotState
    generation: int
    starting: bool
    surging: bool = False


def next_step(slots: Sequence[SlotSnapshot], generation: int, pace: RollPace = ONE_BY_ONE) -> Step:
    """Return what is next on the way to have every occupant of `generation`, at this pace, lowest slot first.

    A slot without an occupant needs nothing: what it gets next is of the new generation anyhow.
    """
    surging = sum(each.surging for each in slots)
    down = sum(each.starting and not each.surging for each in slots)
    old = [each for each in slots if each.state is SlotState.FILLED and each.generation != generation]
    wids = sorted(each.wid for each in old if not each.starting)
    if not wids:
        return Step(StepKind.WAIT if surging or down else StepKind.DONE)
    if surging + down >= pace.surge + pace.unavailable:
        return Step(StepKind.WAIT)
    return Step(StepKind.REPLACE if surging < pace.surge else StepKind.STOP_FIRST, wids[0])
