"""What the functions behind the verbs work on, and how an answer about many processes is given.

Rules: no bytes here, and nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from forkserve.control.schema import WatcherReport
from forkserve.control.stream import EventHistory
from forkserve.control.usage import Meter
from forkserve.master import Master

__all__ = ["Context", "Steps"]

Steps = Generator[None, None, list[WatcherReport]]
"""Looks at one process in each step, and returns the answer."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb works on."""

    master: Master
    meter: Meter
    events: EventHistory
