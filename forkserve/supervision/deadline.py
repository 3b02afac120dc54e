"""An instant with a meaning: what a process, a slot or a group waits for, as data that can be serialised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Deadline", "DeadlineKind", "earliest"]


class DeadlineKind(Enum):
    """What happens at the instant."""

    EXEC = "the program must run"
    READY = "it must have said READY=1"
    SETTLE = "it counts as ready"
    STOP = "it must have stopped"
    KILL = "SIGKILL must have ended it"
    RETRY = "the slot is tried again"
    LOOK = "memory is looked at again"


@dataclass(frozen=True, slots=True)
class Deadline:
    """`instant` on the monotonic clock, in seconds; `timeout` is its original length, for messages."""

    instant: float
    kind: DeadlineKind
    timeout: float

    @classmethod
    def after(cls, timeout: float, kind: DeadlineKind, now: float) -> Deadline:
        """Return the deadline that is `timeout` seconds from now."""
        return cls(now + timeout, kind, timeout)

    def is_due(self, now: float) -> bool:
        """True once its instant has passed."""
        return self.instant <= now


def earliest(instants: Iterable[float | None]) -> float | None:
    """Return the earliest of these instants, None if there is none."""
    return min((each for each in instants if each is not None), default=None)
