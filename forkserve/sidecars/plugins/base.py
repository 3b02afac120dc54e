"""What our plugins share: options, the control interface, a loop with an interval, and a statsd client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from forkserve.control.asyncclient import AsyncControlClient
from forkserve.errors import ControlError
from forkserve.unix.datagrams import DatagramSender

__all__ = ["Plugin", "StatsdClient"]

log = logging.getLogger("forkserve.plugins")

MOST_PAST = 1000
"""Most past events that are requested."""
AGAIN = 1.0
"""Seconds until the stream of events is requested again after its end."""


class StatsdClient:
    """Sends single figures to a statsd, by UDP; what cannot be sent is lost."""

    def __init__(self, host: str, port: int, prefix: str, sample_rate: float = 1.0) -> None:
        self._prefix = prefix
        self._rate = "" if sample_rate == 1 else f"|@{sample_rate:g}"
        self._sender = DatagramSender(host, port)

    def increment(self, name: str) -> None:
        """Increment a counter."""
        self._send(name, "1|c")

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._send(name, f"{value}|g")

    def timed(self, name: str, milliseconds: int) -> None:
        """Report a duration."""
        self._send(name, f"{milliseconds}|ms")

    def _send(self, name: str, value: str) -> None:
        self._sender.send(f"{self._prefix}.{name}:{value}{self._rate}".encode())


class Plugin:
    """One plugin; `options` are parsed already. `run` goes on until it is cancelled."""

    def __init__(self, client: AsyncControlClient, options: Mapping[str, Any]) -> None:
        self.client = client
        self.options = options

    async def run(self) -> None:
        """Do the plugin's work."""
        raise NotImplementedError

    async def every(self, seconds: float, poll: Callable[[], Awaitable[None]]) -> None:
        """Check repeatedly; a check that the master refuses is logged, and the next one may succeed."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await poll()
            except ControlError as error:
                log.warning("%s", error)

    async def events(self, past: float = 0.0) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of the master; a broken stream is resumed.

        Those of the last `past` seconds come first: this program may take some to start.
        """
        last, since = 0, time.time() - past
        while True:
            first = MOST_PAST if past and not last else None
            try:
                async for event in self.client.follow("events", follow=True, after=last or None, last=first):
                    last = event["id"]
                    if event["time"] >= since:
                        yield event
            except ControlError as error:
                log.debug("%s", error)
            await asyncio.sleep(AGAIN)

    async def ask(self, verb: str, **parameters: Any) -> None:
        """Request an action of the master; a refusal is logged."""
        try:
            await self.client.call(verb, **parameters)
        except ControlError as error:
            log.warning("%s: %s", verb, error)

    def statsd(self) -> StatsdClient:
        """Return the statsd client that the options describe."""
        options = self.options
        prefix = f"circus.{options['application_name']}.watcher"
        return StatsdClient(options["host"], options["port"], prefix, options["sample_rate"])
