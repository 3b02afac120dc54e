"""Which process a reload replaces next, and how many at a time.

Rules: pure. `next_step` is called after every event of a reload, and never lets more processes of a watcher be in
transition than its pace allows. What has begun to serve in its new generation does not count any more: it may be
renewed for its age or size in the middle of the reload, and with many processes one of them always is. Only before a
process is stopped first those that are down for another reason count too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from forkserve.config.model import WatcherOptions
from forkserve.config.portions import amount_of
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.snapshot import SlotSnapshot

__all__ = ["ONE_BY_ONE", "RollPace", "Step", "StepKind", "next_step", "pace_of"]


class StepKind(Enum):
    """What a reload does next."""

    REPLACE = "replace"
    STOP_FIRST = "stop first"
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a reload; REPLACE and STOP_FIRST name the slot."""

    kind: StepKind
    wid: int = 0


@dataclass(frozen=True, slots=True)
class RollPace:
    """How many processes a reload may have in excess of the target (`surge`), and how many below it (`unavailable`)."""

    surge: int = 1
    unavailable: int = 0


ONE_BY_ONE = RollPace()


def pace_of(options: WatcherOptions, target: int) -> RollPace:
    """Return the pace of a watcher with this many processes: a percentage is rounded up for surge, down for
    unavailable.

    If both are 0 then, one unavailable is allowed, as in Kubernetes. What does not start again is never stopped first.
    """
    surge = 1 if options.max_surge is None else amount_of(options.max_surge, target, up=True)
    unavailable = amount_of(options.max_unavailable, target, up=False)
    if not options.respawn:
        return RollPace(max(surge, 1), 0)
    return RollPace(surge, unavailable if surge else max(unavailable, 1))


def next_step(slots: Sequence[SlotSnapshot], generation: int, pace: RollPace = ONE_BY_ONE) -> Step:
    """Return the next step on the way to have every occupant of `generation`, at this pace, lowest slot first.

    A slot without an occupant needs nothing: its next process is of the new generation anyway.
    """
    ours = [each for each in slots if each.serves != generation]
    surging = sum(each.surging for each in ours)
    down = sum(each.starting and not each.surging for each in ours)
    old = [each for each in slots if each.state is SlotState.FILLED and each.generation != generation]
    wids = sorted(each.wid for each in old if not each.starting)
    if not wids:
        return Step(StepKind.WAIT if surging or down else StepKind.DONE)
    if surging + down >= pace.surge + pace.unavailable:
        return Step(StepKind.WAIT)
    if surging < pace.surge:
        return Step(StepKind.REPLACE, wids[0])
    is_enough = sum(each.starting and not each.surging for each in slots) < pace.unavailable
    return Step(StepKind.STOP_FIRST, wids[0]) if is_enough else Step(StepKind.WAIT)
