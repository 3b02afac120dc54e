"""Facts about the replacement of the master by other code."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import Event
from forkserve.wording import count_of

__all__ = ["MasterSucceeded", "UpgradeBegun", "UpgradeFailed", "Upgraded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterSucceeded(Event):
    """This master has taken over what one has left that was killed: `processes` serve on, `lost` have ended since."""

    kind: ClassVar[str] = "master.succeeded"
    severity: ClassVar[int] = logging.WARNING
    master: int
    processes: int
    lost: int
    ending: int

    def text(self) -> str:
        lost = f", {self.lost} have ended meanwhile" if self.lost else ""
        ending = f", {self.ending} cannot be taken over and are ended" if self.ending else ""
        return f"took over from the master that was killed, pid {self.master}: {count_of(self.processes)}{lost}{ending}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeBegun(Event):
    """New code is being tried: `command` executes it."""

    kind: ClassVar[str] = "upgrade.begun"
    command: tuple[str, ...]

    def text(self) -> str:
        return f"upgrading to {shlex.join(self.command)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFailed(Event):
    """New code cannot take over, and nothing has changed."""

    kind: ClassVar[str] = "upgrade.failed"
    severity: ClassVar[int] = logging.ERROR
    reason: str

    def text(self) -> str:
        return f"the upgrade has failed, everything stays as it is: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded(Event):
    """New code runs in the process of the master, and supervises the same processes."""

    kind: ClassVar[str] = "upgrade.done"
    program: str
    before: str
    processes: int

    def text(self) -> str:
        return f"upgraded: {self.program} (before: {self.before}), with {count_of(self.processes)}"
