"""WatchDog: processes send datagrams as heartbeats, and one that has sent none for too long is replaced."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from forkserve.errors import ForkserveError
from forkserve.sidecars.plugins.base import Plugin

__all__ = ["WatchDog"]

log = logging.getLogger("forkserve.plugins")


@dataclass(slots=True)
class _Watched:
    watcher: str
    at: float


class WatchDog(Plugin):
    """Receives datagrams of the form `msg_regex`, with the pid in them."""

    async def run(self) -> None:
        """Listen, and check at the interval of loop_rate."""
        self._watched: dict[int, _Watched] = {}
        place = (self.options["ip"], self.options["port"])
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Signs(self._heard), local_addr=place)
        except OSError as error:
            raise ForkserveError(f"cannot listen at {place[0]}:{place[1]}/udp: {error.strerror}") from None
        try:
            await self.every(self.options["loop_rate"], self._poll)
        finally:
            transport.close()

    def _heard(self, data: bytes) -> None:
        found = self.options["msg_regex"].match(data.decode("utf-8", "replace").strip())
        text = found.groupdict().get("pid", "") if found else ""
        if text and text.strip().isdigit() and int(text) in self._watched:
            self._watched[int(text)].at = time.monotonic()

    async def _poll(self) -> None:
        await self._discover()
        limit = time.monotonic() - self.options["loop_rate"] * self.options["max_count"]
        for pid, watched in tuple(self._watched.items()):
            if watched.at < limit:
                log.info("%s: pid %d gives no sign of life, and is killed", watched.watcher, pid)
                del self._watched[pid]
                await self.ask("kill", watcher=watched.watcher, pid=pid, waiting=False, **self._how())

    def _how(self) -> dict[str, Any]:
        signum, timeout = self.options["watchers_stop_signal"], self.options["watchers_graceful_timeout"]
        return {"signum": None if signum is None else int(signum), "graceful_timeout": timeout}

    async def _discover(self) -> None:
        """Watch current processes; a new one has the whole time from now on."""
        now = time.monotonic()
        living: dict[int, _Watched] = {}
        for report in await self.client.call("status"):
            name = report["name"]
            if not name.startswith("plugin:") and self.options["watchers_regex"].match(name):
                for process in report["processes"]:
                    if process["pid"] and process["state"] == "ready":
                        living[process["pid"]] = self._watched.get(process["pid"]) or _Watched(name, now)
        self._watched = living


class _Signs(asyncio.DatagramProtocol):
    def __init__(self, heard: Any) -> None:
        self._on_sign = heard

    def datagram_received(self, data: bytes, _address: Any) -> None:
        """Called with each datagram."""
        self._on_sign(data)
