"""ResourceWatcher: restarts a watcher whose processes use too much, or too little, for several checks in a row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forkserve.sidecars.plugins.base import Plugin

__all__ = ["ResourceWatcher", "UsageExtremes", "excesses"]


@dataclass(frozen=True, slots=True)
class UsageExtremes:
    """The extremes of some processes: cpu in percent of a core, memory in percent of the machine's and in bytes."""

    max_cpu: float = 0.0
    min_cpu: float = 0.0
    max_mem: float = 0.0
    min_mem: float = 0.0
    max_bytes: int = 0
    min_bytes: int = 0

    @classmethod
    def of(cls, processes: Sequence[dict[str, Any]], total: int) -> UsageExtremes:
        """Return those of the processes that `stats` reports on a machine with `total` bytes."""
        if not processes:
            return cls()
        cpu = [each["cpu"] for each in processes]
        memory = [each["memory"] for each in processes]
        return cls(
            max(cpu), min(cpu), 100 * max(memory) / total, 100 * min(memory) / total, max(memory), min(memory)
        )  # fmt: skip


def excesses(usages: UsageExtremes, options: dict[str, Any]) -> list[str]:
    """Return which limits are exceeded, in Circus's words."""
    found = []
    if options["max_cpu"] and usages.max_cpu > options["max_cpu"]:
        found.append("over_cpu")
    if options["min_cpu"] is not None and usages.min_cpu <= options["min_cpu"]:
        found.append("under_cpu")
    most, least = options["max_mem"], options["min_mem"]
    if most is not None and most.of(usages.max_mem, usages.max_bytes) > most.amount:
        found.append("over_memory")
    if least is not None and least.of(usages.min_mem, usages.min_bytes) < least.amount:
        found.append("under_memory")
    threshold = options["health_threshold"]
    if threshold and (usages.max_cpu + usages.max_mem) / 2 > threshold:
        found.append("over_health")
    return found


class ResourceWatcher(Plugin):
    """Watches one watcher, and its children separately with `process_children`."""

    async def run(self) -> None:
        """Check at the interval of loop_rate."""
        self._total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._counts: dict[tuple[int, str], int] = {}
        self._statsd = self.statsd()
        await self.every(self.options["loop_rate"], self._poll)

    async def _poll(self) -> None:
        (report,) = await self.client.call("stats", watcher=self.options["watcher"])
        used = [each["usage"] for each in report["processes"] if each.get("usage")]
        if await self._judge(0, used):
            await self.ask("restart", watcher=report["name"], waiting=False)
        if not self.options["process_children"]:
            return
        signum = self.options["child_signal"]
        for process in used:
            for child in process.get("children", ()):
                if await self._judge(child["pid"], [child]):
                    await self.ask("signal", watcher=report["name"], childpid=child["pid"], signal=int(signum))

    async def _judge(self, pid: int, used: list[dict[str, Any]]) -> bool:
        """Tell whether something is to be done about the processes under a pid, 0 for the watcher's own."""
        name = f"_resource_watcher.{self.options['watcher']}"
        found = excesses(UsageExtremes.of(used, self._total), dict(self.options))
        for each in found:
            self._statsd.increment(f"{name}.{each}")
        self._counts = {key: count for key, count in self._counts.items() if key[0] != pid or key[1] in found}
        for each in found:
            self._counts[pid, each] = self._counts.get((pid, each), 0) + 1
        if not any(self._counts[pid, each] > self.options["max_count"] for each in found):
            return False
        self._statsd.increment(f"{name}.restarting")
        self._counts = {key: count for key, count in self._counts.items() if key[0] != pid}
        return True
