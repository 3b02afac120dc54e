"""Whether a worker still goes on: what its heartbeat says, judged.

Theory of operation. A worker that serves leaves a beat in its page of the scoreboard at each turn of its loop, each
answer, and each piece of a response. A loop that waits for events has no turns, so a worker that has been silent for
half of its patience is rung: the bell is an event of every loop, whatever runs nested in it. One that is silent for the
whole of its patience although it was rung is stuck: its loop does not come back, since code of the application does
not, or since C code keeps the interpreter's lock.

A beat is compared with the one before, never with a clock, so a worker that writes nonsense deceives nobody but itself.
Time counts only while the worker can run: not while it is stopped or traced, not while the master itself did not look,
and not while the machine gave the worker no processor, up to `EXCUSED` times its patience.

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
"""Seconds by which a look may be late before its lateness is nobody's silence."""
EXCUSED = 4.0
"""Patiences after which no lack of a processor excuses any more."""
STARVED = 0.5
"""Part of a silence in which a process wanted a processor and got none, from which on it is starved."""
RAN = 0.25
"""Part of a silence in which a process ran, from which on it is not."""


class BeatVerdict(Enum):
    """What follows from a look."""

    FINE = "fine"
    RING = "ring"
    STARVED = "starved"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a worker. `beat` is any number that changes when it goes on, `condition` is known when it is silent.

    `patience` are the seconds of silence that it has asked for, 0 to be let alone.
    """

    beat: float
    patience: float
    condition: ProcessCondition | None = None


@dataclass(slots=True)
class Heart:
    """What is known of one worker: its last beat and since when it is silent, `seconds` of silence that counted.

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
    """Return the seconds until the next look at a worker of this patience."""
    return min(max(patience / 8, SHORTEST), LONGEST)


def judge(heart: Heart, sight: Sight, now: float) -> BeatVerdict:
    """Take in a look, and tell what follows of it."""
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
    """Tell whether the machine has kept a worker from running since it was rung."""
    before, after = heart.then, sight.condition
    if before is None or after is None:
        return False
    span = max(heart.seconds - sight.patience / 2, 0.001)
    return after.waited - before.waited > STARVED * span and after.ran - before.ran < RAN * span
