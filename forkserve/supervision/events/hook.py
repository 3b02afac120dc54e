"""Facts about the hooks of a watcher."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import WatcherEvent

__all__ = ["HookFailed", "HookSucceeded", "HookVetoed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSucceeded(WatcherEvent):
    """A hook has returned, with whatever result."""

    kind: ClassVar[str] = "hook.succeeded"
    severity: ClassVar[int] = logging.DEBUG
    name: str

    def text(self) -> str:
        return f"{self.watcher}: hooks.{self.name} has returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFailed(WatcherEvent):
    """A hook did not return: it cannot be imported, raised, took too long, or its process ended."""

    kind: ClassVar[str] = "hook.failed"
    severity: ClassVar[int] = logging.ERROR
    name: str
    error: str

    def text(self) -> str:
        return f"{self.watcher}: hooks.{self.name} failed: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookVetoed(WatcherEvent):
    """A hook has forbidden an action, by a false value or by its failure."""

    kind: ClassVar[str] = "hook.vetoed"
    severity: ClassVar[int] = logging.WARNING
    reason: str
    effect: str

    def text(self) -> str:
        return f"{self.watcher}: {self.reason}: {self.effect}"
