"""What a job wants done to its watcher, as data; `jobqueue.execution` does it.

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
    "FillSlot",
    "GenerationEffect",
    "JobEffect",
    "CompareGenerations",
    "OpenGeneration",
    "PutBack",
    "Rehearse",
    "Replace",
    "Revive",
    "SendHup",
    "SetTarget",
    "SlotEffect",
    "TakeDown",
    "StopFirst",
    "Tell",
    "Unconfine",
    "Up",
    "VacateSlot",
    "WatcherEffect",
    "Withdraw",
]


@dataclass(frozen=True, slots=True)
class Up:
    """Set the target that it runs."""


@dataclass(frozen=True, slots=True)
class TakeDown:
    """Clear the target, and stop what runs.

    With `finish` the processes first take what waits in their queues; with `closing` nothing new enters those that no
    other watcher reads.
    """

    finish: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Delay:
    """Serve on for this many seconds, while not ready."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Revive:
    """Retry at once what had failed."""


@dataclass(frozen=True, slots=True)
class SetTarget:
    """Keep this many processes."""

    target: int


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Try whether the offered command could be started."""

    offer: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Forget an offer that is not used."""

    offer: int


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """Make the offered command that of the next processes; `follow` resolves links again.

    With `back_to` they are forked by the zygote of that generation, if it was kept.
    """

    offer: int
    follow: bool = True
    back_to: int = 0


@dataclass(frozen=True, slots=True)
class Approve:
    """Note that a generation, 0 for the current one, serves as it should, in place of those."""

    generation: int = 0
    instead_of: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PutBack:
    """Make a former generation that of the next processes."""

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
class VacateSlot:
    """Stop the process of a slot, and leave it without one until it is started."""

    wid: int


@dataclass(frozen=True, slots=True)
class FillSlot:
    """Start the process of a slot that was stopped, or has failed."""

    wid: int


@dataclass(frozen=True, slots=True)
class Confine:
    """Confine the current generation to these slots, and use the former one in all others."""

    slots: tuple[int, ...]
    before: int


@dataclass(frozen=True, slots=True)
class CompareGenerations:
    """Compare the current generation with the former one for this many seconds."""

    before: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unconfine:
    """Use the current generation in all slots, and compare no more."""


@dataclass(frozen=True, slots=True)
class SendHup:
    """Send SIGHUP to all processes."""


@dataclass(frozen=True, slots=True)
class EndProcesses:
    """Ask some processes to end, and replace them; None means as configured."""

    pids: tuple[int, ...]
    signum: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Start a run of a timer."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Emit an event."""

    event: Event


SlotEffect = Replace | StopFirst | VacateSlot | FillSlot

GenerationEffect = Rehearse | Withdraw | OpenGeneration | Approve | PutBack | Confine | CompareGenerations | Unconfine

WatcherEffect = Up | TakeDown | Delay | Revive | SetTarget | EndProcesses | BeginRun | SendHup | Tell

JobEffect = WatcherEffect | GenerationEffect | SlotEffect
