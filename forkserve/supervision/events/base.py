"""What every event has: a kind, a level, a text, and plain fields."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

__all__ = ["Event", "WatcherEvent", "as_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events. `channel` is the logger's name after `forkserve.`."""

    kind: ClassVar[str] = ""
    channel: ClassVar[str] = "master"
    severity: ClassVar[int] = logging.INFO

    @property
    def level(self) -> int:
        """The level of its line in the log."""
        return self.severity

    def text(self) -> str:
        """Return the fact as one line for a person."""
        raise NotImplementedError(self.kind)

    def detail(self) -> str:
        """Return further lines, such as a traceback; empty for most events."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherEvent(Event):
    channel: ClassVar[str] = "watcher"
    watcher: str


def as_data(event: Event) -> dict[str, object]:
    """Return an event as JSON values: `kind`, `text` and its fields; enums by value, tuples as lists."""
    data: dict[str, object] = {"kind": event.kind, "text": event.text()}
    for each in dataclasses.fields(event):
        value = getattr(event, each.name)
        data[each.name] = value.value if isinstance(value, Enum) else value
    return data
