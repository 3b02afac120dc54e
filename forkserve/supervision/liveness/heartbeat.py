"""Whether a worker still makes progress: its heartbeat, judged.

Theory of operation. A serving worker leaves a beat in its page of the scoreboard at each turn of its loop, each answer,
and each piece of a response. A loop that waits for events has no turns, so the master rings the bell for a worker that
has been silent for half of its patience: the bell is an event of every loop, whatever runs nested in it. A worker that
is silent for the whole of its patience despite the bell is stuck: its loop does not return, because code of the
application does not, or because C code keeps the interpreter's lock.

A beat is compared with the one before, never with a clock, so a worker that writes nonsense affects only itself. Time
counts only while the worker can run: not while it is stopped or traced, not while the master itself did not look, and
not while the machine gave the worker no processor, up to `EXCUSED` times its patience.

Rules: pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from forkserve.supervision.os.condition import ProcessCondition

__all__ = ["BeatVerdict", "Heart", "Sight", "interval_of", "judge"]

SHORTEST, LONGEST = 0.05, 5.0
"""Seconds between two looks."""
LATE = 1.0
"""Seconds by which a look may be late before the delay is left out of the silence."""
EXCUSED = 4.0
"""Patiences after which the lack of a processor is no longer an excuse."""
STARVED = 0.5
"""Share of a silence in which a process wanted a processor and got none, from which on it is starved."""
RAN = 0.25
"""Share of a silence in which a process ran, from which on it is not starved."""


class BeatVerdict(Enum):
    """What follows from a look."""

    FINE = "fine"
    RING = "ring"
    STARVED = "starved"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a worker. `beat` is any number that changes with progress; `condition` is known if it is silent.

    `patience` is the allowed silence in seconds, 0 for no limit.
    """

    beat: float
    patience: float
    condition: ProcessCondition | None = None


@dataclass(slots=True)
class Heart:
    """The state of one worker: its last beat and since when it is silent, `seconds` of silence that counted.

    `then` is its condition when the silence began to count, `looked` the instant of the last look.
    """

    beat: float = 0.0
    seconds: float = 0.0
    excused: float = 0.0
    looked: float | None = None
    rung: bool = False
    told: bool = False
    then: ProcessCondition | None = field(default=None)


def interval_of(patience: float) -> float:
    """Return the seconds until the next look at a worker with this patience."""
    return min(max(patience / 8, SHORTEST), LONGEST)


def judge(heart: Heart, sight: Sight, now: float) -> BeatVerdict:
    """Record a look, and return what follows from it."""
    passed = 0.0 if heart.looked is None else now - heart.looked
    heart.looked = now
    is_held = sight.condition is not None and sight.condition.is_held
    if sight.patience <= 0 or sight.beat != heart.beat or is_held:
        _begin(heart, sight)
        return BeatVerdict.FINE
    heart.seconds += min(passed, interval_of(sight.patience) + LATE)
    if not heart.rung and heart.seconds >= sight.patience / 2:
        heart.rung, heart.then = True, sight.condition
        return BeatVerdict.RING
    if heart.seconds < sight.patience or heart.told:
        return BeatVerdict.FINE
    if heart.excused < EXCUSED * sight.patience and _is_starved(heart, sight):
        heart.excused += sight.patience / 2
        heart.seconds, heart.then = sight.patience / 2, sight.condition
        return BeatVerdict.STARVED
    heart.told = True
    return BeatVerdict.STUCK


def _begin(heart: Heart, sight: Sight) -> None:
    heart.beat, heart.seconds, heart.excused = sight.beat, 0.0, 0.0
    heart.rung = heart.told = False
    heart.then = None


def _is_starved(heart: Heart, sight: Sight) -> bool:
    """Tell whether the machine has kept a worker from running since the bell was rung."""
    before, after = heart.then, sight.condition
    if before is None or after is None:
        return False
    span = max(heart.seconds - sight.patience / 2, 0.001)
    return after.waited - before.waited > STARVED * span and after.ran - before.ran < RAN * span
