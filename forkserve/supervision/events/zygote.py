"""Facts about the zygotes of a watcher: lost, delayed, replaced by a worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import WatcherEvent

__all__ = ["ZygoteDelayed", "ZygoteFinal", "ZygoteGivenUp", "ZygoteNotKept", "ZygoteReforked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteGivenUp(WatcherEvent):
    """A zygote that had been ready was lost, and cannot be started again."""

    kind: ClassVar[str] = "zygote.given_up"
    severity: ClassVar[int] = logging.ERROR
    generation: int
    reason: str

    def text(self) -> str:
        return (
            f"{self.watcher} has no zygote any more, which {self.reason}: new workers import the application "
            f"themselves (the next reload makes another)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteDelayed(WatcherEvent):
    """A zygote that had been ready was lost, and the machine is short of what another one needs."""

    kind: ClassVar[str] = "zygote.delayed"
    severity: ClassVar[int] = logging.WARNING
    generation: int
    reason: str
    delay: float

    def text(self) -> str:
        return f"{self.watcher} zygote cannot be started: {self.reason}; tried again in {self.delay:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteReforked(WatcherEvent):
    """A worker that had served enough requests has become the zygote; `rounds` counts those of this generation."""

    kind: ClassVar[str] = "zygote.reforked"
    process: str = ""
    wid: int
    pid: int
    generation: int
    rounds: int

    def text(self) -> str:
        return f"{self.watcher} zygote is pid {self.pid} now, a worker before: workers are replaced by its children"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteFinal(WatcherEvent):
    """No further worker becomes the zygote of this generation."""

    kind: ClassVar[str] = "zygote.final"
    generation: int
    rounds: int
    reason: str

    def text(self) -> str:
        return f"{self.watcher} keeps its zygote ({self.rounds} reforked): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteNotKept(WatcherEvent):
    """The zygote of a former generation ends because memory is short; `spare` is the share of it that is free."""

    kind: ClassVar[str] = "zygote.not-kept"
    severity: ClassVar[int] = logging.WARNING
    generation: int
    spare: float

    def text(self) -> str:
        return (
            f"{self.watcher} keeps no zygote of generation {self.generation} for a rollback: "
            f"{self.spare:.0%} of the memory is free"
        )
