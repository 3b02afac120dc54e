"""StatsdEmitter and FullStats: events and usage, for statsd."""

from __future__ import annotations

import os

from forkserve.sidecars.circus.topics import published
from forkserve.sidecars.plugins.base import Plugin

__all__ = ["FullStats", "StatsdEmitter"]


class StatsdEmitter(Plugin):
    """Counts each event that Circus publishes: `circus.APP.watcher.WATCHER.ACTION`."""

    async def run(self) -> None:
        """Count until the end."""
        statsd = self.statsd()
        async for event in self.events():
            found = published(event)
            if found is not None:
                statsd.increment(found[0].removeprefix("watcher."))


class FullStats(Plugin):
    """Sends what each watcher uses."""

    async def run(self) -> None:
        """Send at the interval of loop_rate."""
        self._statsd = self.statsd()
        self._total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        await self.every(self.options["loop_rate"], self._poll)

    async def _poll(self) -> None:
        for report in await self.client.call("stats"):
            if report["name"].startswith("plugin:"):
                continue
            used = [each["usage"] for each in report["processes"] if each.get("usage")]
            name = f"_stats.{report['name']}"
            self._statsd.gauge(f"{name}.watchers_num", len(used))
            if not used:
                continue
            cpu = [each["cpu"] for each in used]
            memory = [each["memory"] for each in used]
            percents = [round(100 * each / self._total, 3) for each in memory]
            for figure, values in (("cpu", cpu), ("mem_pct", percents), ("mem", memory)):
                self._statsd.gauge(f"{name}.{figure}_max", max(values))
                self._statsd.gauge(f"{name}.{figure}_sum", round(sum(values), 3))
