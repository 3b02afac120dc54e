"""The watcher `circusd-stats`, which Circus lists when it publishes statistics: here this program itself.

It is shown and counted like any other, and accepts no commands. A user's watcher with that name takes precedence.
"""

from __future__ import annotations

import os
from typing import Any

from forkserve.sidecars.circus.figures import info_of
from forkserve.sidecars.circus.service import CircusService

__all__ = ["NAME", "REFUSAL", "STATE", "infos", "is_meant", "is_shown", "pids"]

NAME = "circusd-stats"
STATE = "active"
REFUSAL = f"{NAME} is the program that serves these endpoints, and takes no orders"


async def is_shown(service: CircusService) -> bool:
    """Tell whether it is among the watchers."""
    return service.publishes_stats and NAME not in (each.lower() for each in await service.names())


async def is_meant(service: CircusService, name: str | None) -> bool:
    """Tell whether a name is that of this watcher."""
    return name is not None and name.lower() == NAME and await is_shown(service)


def pids() -> list[int]:
    """Return its processes."""
    return [os.getpid()]


async def infos(service: CircusService) -> dict[str, Any]:
    """Return what its process uses, by pid."""
    companions = await service.client.call("dstats")
    return {str(each["pid"]): info_of(each, service.memory) for each in companions if each["pid"] in pids()}
