"""The watcher `circusd-stats`, which Circus lists when it publishes statistics: here this program itself.

It is shown and counted like any other, and accepts no commands. A user's watcher with that name takes precedence.
"""

from __future__ import annotations

import os
from typing import Any

from forkserve.sidecars.circus.desk import Desk
from forkserve.sidecars.circus.figures import info_of

__all__ = ["NAME", "REFUSAL", "STATE", "infos", "is_meant", "is_shown", "pids"]

NAME = "circusd-stats"
STATE = "active"
REFUSAL = f"{NAME} is the program that serves these endpoints, and takes no orders"


async def is_shown(desk: Desk) -> bool:
    """Tell whether it is among the watchers."""
    return desk.publishes_stats and NAME not in (each.lower() for each in await desk.names())


async def is_meant(desk: Desk, name: str | None) -> bool:
    """Tell whether a name is that of this watcher."""
    return name is not None and name.lower() == NAME and await is_shown(desk)


def pids() -> list[int]:
    """Return its processes."""
    return [os.getpid()]


async def infos(desk: Desk) -> dict[str, Any]:
    """Return what its process uses, by pid."""
    companions = await desk.client.call("dstats")
    return {str(each["pid"]): info_of(each, desk.memory) for each in companions if each["pid"] in pids()}
