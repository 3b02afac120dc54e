"""Flapping: a watcher whose processes die too often is stopped, and started again later, a few times.

Only unrequested ends count. forkserve's own back-off (`backoff`, `max_retry`) applies besides.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from forkserve.config.plugins import PLUGINS, plugin_options
from forkserve.errors import ControlError
from forkserve.sidecars.plugins.base import Plugin

__all__ = ["Flapping", "DeathTimeline", "FlappingVerdict"]

log = logging.getLogger("forkserve.plugins")

_USE = "circus.plugins.flapping.Flapping"
_PAST = 10.0
"""Seconds before its own start in which deaths count: watchers start beside it."""
_UNASKED = frozenset({"restart", "backoff"})


@dataclass(frozen=True, slots=True)
class FlappingVerdict:
    """What follows from a death: `stop` the watcher, and start it `again`, for the `tries`th time."""

    stop: bool = False
    again: bool = False
    tries: int = 0


@dataclass(slots=True)
class DeathTimeline:
    """The deaths of one watcher, as instants."""

    deaths: list[float] = field(default_factory=list)
    tries: int = 0

    def died(self, now: float, options: dict[str, Any]) -> FlappingVerdict:
        """Record a death and return what follows."""
        self.deaths.append(now)
        if len(self.deaths) < options["attempts"]:
            return FlappingVerdict()
        is_flapping = self.deaths[-1] - self.deaths[0] <= options["window"]
        self.deaths.clear()
        if not is_flapping:
            self.tries = 0
            return FlappingVerdict()
        if 0 <= options["max_retry"] <= self.tries:
            self.tries = 0
            return FlappingVerdict(stop=True)
        self.tries += 1
        return FlappingVerdict(stop=True, again=True, tries=self.tries)


class Flapping(Plugin):
    """Listens to exits; each watcher may have other options, `flapping.window = 3`."""

    async def run(self) -> None:
        """Handle each exit."""
        timelines: dict[str, DeathTimeline] = {}
        starts: dict[str, asyncio.Task[None]] = {}
        async for event in self.events(past=_PAST):
            if event["kind"] != "process.exited" or event["consequence"] not in _UNASKED:
                continue
            name = event["watcher"]
            if name.startswith("plugin:"):
                continue
            options = await self._options_of(name)
            if not options["active"]:
                continue
            verdict = timelines.setdefault(name, DeathTimeline()).died(event["time"], options)
            if verdict.stop:
                await self._stop(name, verdict, options)
            if verdict.again:
                starts[name] = asyncio.create_task(self._start(name, options["retry_in"]))

    async def _options_of(self, name: str) -> dict[str, Any]:
        try:
            known = await self.client.call("options", watcher=name)
            own = {key.removeprefix("flapping."): text for key, text in known.items() if key.startswith("flapping.")}
            wanted = {key: value for key, value in own.items() if key in PLUGINS[_USE]}
            parsed = plugin_options(_USE, wanted)
        except (ControlError, ValueError) as error:
            log.warning("%s: flapping.%s", name, error)
            return dict(self.options)
        return {**self.options, **{key: parsed[key] for key in wanted}}

    async def _stop(self, name: str, verdict: FlappingVerdict, options: dict[str, Any]) -> None:
        if verdict.again:
            log.info(
                "%s: flapping detected: retry in %g s (attempt number %d)", name, options["retry_in"], verdict.tries
            )
        else:
            log.info("%s: flapping detected: reached max retry limit", name)
        await self.ask("stop", watcher=name, waiting=False)

    async def _start(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.ask("start", watcher=name, waiting=False)
