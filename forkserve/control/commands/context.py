"""What the functions behind the verbs work on, and how an answer about many processes is produced.

Rules: no bytes here, and nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from forkserve.control.sampler import Measure, Sampler
from forkserve.control.stream import EventHistory
from forkserve.master import Master

__all__ = ["Context", "Later", "Steps"]


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that comes later, from the processes: `begin` is called with the function that takes it."""

    begin: Callable[[Callable[[Any], None]], None]


Steps = Generator[Measure | Later | None, Any, Any]
"""Handles one watcher in each step, and returns the answer; a step that yields a request gets the figures, or what
comes later.
"""


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb works on."""

    master: Master
    sampler: Sampler
    events: EventHistory
