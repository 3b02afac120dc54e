"""What a job wants done to its watcher, as data; `jobqueue` does it.

Rules: pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.supervision.events import Event

__all__ = [
    "Approve",
    "BeginRun",
    "Confine",
    "Delay",
    "EndProcesses",
    "JobEffect",
    "CompareGenerations",
    "OpenGeneration",
    "PutBack",
    "Rehearse",
    "Replace",
    "Revive",
    "SendHup",
    "SetTarget",
    "TakeDown",
    "StopFirst",
    "Tell",
    "Unconfine",
    "Up",
    "Withdraw",
]


@dataclass(frozen=True, slots=True)
class Up:
    """Raise the wish that it runs."""


@dataclass(frozen=True, slots=True)
class TakeDown:
    """Lower the wish, and stop what runs; with `finish` it first takes what waits in its queues, with `closing` nothing
    new comes into those that no other watcher reads."""

    finish: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Delay:
    """Go on serving for so many seconds, and count as not ready."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Revive:
    """Try again at once what had failed."""


@dataclass(frozen=True, slots=True)
class SetTarget:
    """Keep this many processes."""

    target: int


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Try whether what was offered could be started."""

    offer: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Forget an offer that is not taken."""

    offer: int


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """Have the next processes be of what was offered; `follow` has them start where links lead by now.

    With `back_to` they are forked by the zygote of that generation, where one has been kept.
    """

    offer: int
    follow: bool = True
    back_to: int = 0


@dataclass(frozen=True, slots=True)
class Approve:
    """Note that a generation, 0 for the one in force, serves as it should, in the place of those."""

    generation: int = 0
    instead_of: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PutBack:
    """Have the next processes be of a former generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Replace:
    """Start a successor for the occupant of a slot."""

    wid: int


@dataclass(frozen=True, slots=True)
class StopFirst:
    """Stop the occupant of a slot, and start its successor when it has ended."""

    wid: int


@dataclass(frozen=True, slots=True)
class Confine:
    """Have the generation in force in these slots alone, and the former one in all others."""

    slots: tuple[int, ...]
    before: int


@dataclass(frozen=True, slots=True)
class CompareGenerations:
    """Compare the generation in force with the former one for so many seconds."""

    before: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unconfine:
    """Have the generation in force in all slots, and compare no more."""


@dataclass(frozen=True, slots=True)
class SendHup:
    """Send SIGHUP to all processes."""


@dataclass(frozen=True, slots=True)
class EndProcesses:
    """Ask some processes to end, and have others follow them; None stands for what is configured."""

    pids: tuple[int, ...]
    signum: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Start a run of a timer."""


@dataclass(frozen=True, slots=True)
class Tell:
    """State a fact."""

    event: Event


JobEffect = (
    Up
    | TakeDown
    | Delay
    | Revive
    | SetTarget
    | Rehearse
    | Withdraw
    | OpenGeneration
    | Approve
    | PutBack
    | Replace
    | StopFirst
    | Confine
    | CompareGenerations
    | Unconfine
    | SendHup
    | EndProcesses
    | BeginRun
    | Tell
)
