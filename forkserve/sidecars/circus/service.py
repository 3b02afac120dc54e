"""What every command works with: the control client, and frequent requests."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

from forkserve.control.asyncclient import AsyncControlClient
from forkserve.sidecars.circus.listing import listed
from forkserve.unix.home import typed_folder

__all__ = ["Answer", "CircusService"]

Answer = dict[str, Any]
"""The fields of an answer."""


@dataclass(frozen=True, slots=True)
class CircusService:
    """`ending` is set when all watchers have stopped; `owner` is the user that all new watchers must run as."""

    client: AsyncControlClient
    ending: asyncio.Event
    owner: str | None = None
    publishes_stats: bool = False
    memory: int = field(default_factory=lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    """Memory of the machine in bytes."""
    folder: str = field(default_factory=lambda: typed_folder(os.environ) or "")
    """Where forkserve was started."""

    async def views(self, name: str | None = None) -> list[Any]:
        """Return the reports of all watchers, or of one."""
        found: list[Any] = await self.client.call("status", watcher=name)
        return found

    async def pids(self, name: str) -> list[int]:
        """Return the processes of a watcher, one for each of its places."""
        (view,) = await self.views(name)
        return listed(view)

    async def names(self) -> list[str]:
        """Return the watchers, in their original spelling."""
        found: list[str] = await self.client.call("list")
        return found
