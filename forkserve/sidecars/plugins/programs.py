"""CommandReloader: restarts a watcher when the program that its command names has become another file."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections.abc import Mapping
from typing import Any

from forkserve.sidecars.plugins.base import Plugin

__all__ = ["CommandReloader", "program_of"]

log = logging.getLogger("forkserve.plugins")


class CommandReloader(Plugin):
    """Watches path, links followed, and modification time of each watcher's program."""

    async def run(self) -> None:
        """Check at the interval of loop_rate."""
        self._seen: dict[str, tuple[str, int]] = {}
        await self._poll()
        await self.every(self.options["loop_rate"], self._poll)

    async def _poll(self) -> None:
        seen: dict[str, tuple[str, int]] = {}
        for name in await self.client.call("list"):
            if name.startswith("plugin:"):
                continue
            found = program_of(await self.client.call("options", watcher=name))
            if found is None:  # it is being replaced
                found = self._seen.get(name)
            if found is not None:
                seen[name] = found
                if name in self._seen and self._seen[name] != found:
                    log.info("%s has changed: %s is restarted", found[0], name)
                    await self.ask("restart", watcher=name, waiting=False)
        self._seen = seen


def program_of(options: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return where the program of a watcher is, and when it was changed, in nanoseconds; None if it is not found."""
    try:
        first = shlex.split(options["cmd"])[0]
    except (ValueError, IndexError):
        return None
    folder = options["working_dir"] or os.curdir
    if "/" in first:
        path: str | None = os.path.join(folder, first)
    else:
        path = shutil.which(first, path=options["env"].get("PATH"))
    if path is None or not os.path.exists(path):
        return None
    path = os.path.realpath(path)
    try:
        return path, os.stat(path).st_mtime_ns
    except OSError:
        return None
