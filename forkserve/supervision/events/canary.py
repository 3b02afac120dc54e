"""Facts about a new generation that is tried in a few slots first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import WatcherEvent

__all__ = ["CanaryBegun", "CanaryJudged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryBegun(WatcherEvent):
    """The processes in these slots are of a new generation, and are compared with the others for `seconds`."""

    kind: ClassVar[str] = "canary.begun"
    generation: int
    slots: tuple[int, ...]
    seconds: float

    def text(self) -> str:
        names = ", ".join(f"{self.watcher}[{wid}]" for wid in self.slots)
        which = f"{names} (generation {self.generation})"
        return f"{self.watcher}: {which} compared with the others for {self.seconds:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryJudged(WatcherEvent):
    """The comparison has ended: with `promoted` the rest follows, else the old command comes back.

    `requests`, `errors` (answers of 500 and more) and `crashes` are those of the comparison, `p99` is an upper bound
    in seconds, -1 beyond the last bucket, `memory` in bytes for each process; first of the former, then of the new
    ones.
    """

    kind: ClassVar[str] = "canary.judged"
    generation: int
    promoted: bool
    reason: str
    requests: tuple[int, int] = (0, 0)
    errors: tuple[int, int] = (0, 0)
    crashes: tuple[int, int] = (0, 0)
    p99: tuple[float, float] = (0.0, 0.0)
    memory: tuple[int, int] = (0, 0)

    def text(self) -> str:
        what = "promoted" if self.promoted else "is rolled back"
        return f"{self.watcher}: the canary of generation {self.generation} {what}: {self.reason}"
