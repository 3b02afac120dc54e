"""Which process a roll replaces next, and how many at a time.

Rules: pure. `next_step` is asked after every event of a roll, and never lets more processes of a watcher be under way
than its pace says.
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


def next_step(slots: Sequence[SlotSnapshot], generation: int, pace: RollPace = ONE_BY_ONE) -> Step:
    """Return what is next on the way to have every occupant of `generation`, at this pace, lowest slot first.

    A slot without an occupant needs nothing: what it gets next is of the new generation anyway.
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
