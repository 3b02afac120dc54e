"""What our plugins have in common: options, the control interface, a rhythm, and a line to statsd."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from forkserve.control.asyncclient import AsyncControlClient
from forkserve.errors import ControlError

__all__ = ["Plugin", "StatsdClient"]

log = logging.getLogger("forkserve.plugins")

MOST_PAST = 1000
"""Former events that are asked for at most."""
AGAIN = 1.0
"""Seconds until the stream of events is asked for again when it has ended."""


class StatsdClient:
    """Sends single figures to a statsd, by UDP; what cannot be sent is lost."""

    def __init__(self, host: str, port: int, prefix: str, sample_rate: float = 1.0) -> None:
        self._prefix = prefix
        self._rate = "" if sample_rate == 1 else f"|@{sample_rate:g}"
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._address: Any = address
        self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)

    def increment(self, name: str) -> None:
        """Count one more."""
        self._send(name, "1|c")

    def gauge(self, name: str, value: float) -> None:
        """Say how much there is."""
        self._send(name, f"{value}|g")

    def timed(self, name: str, milliseconds: int) -> None:
        """Say how long something took."""
        self._send(name, f"{milliseconds}|ms")

    def _send(self, name: str, value: str) -> None:
        try:
            self._socket.sendto(f"{self._prefix}.{name}:{value}{self._rate}".encode(), self._address)
        except OSError:
            return


class Plugin:
    """One plugin; `options` are parsed already. `run` goes on until it is cancelled."""

    def __init__(self, client: AsyncControlClient, options: Mapping[str, Any]) -> None:
        self.client = client
        self.options = options

    async def run(self) -> None:
        """Do the plugin's work."""
        raise NotImplementedError

    async def every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        """Look again and again; a look that the master refuses is told, and the next one may succeed."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await look()
            except ControlError as error:
                log.warning("%s", error)

    async def events(self, past: float = 0.0) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of the master; the stream is taken up again where it was cut.

        Those of the `past` seconds come first: this program may take some to start.
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
        """Begin what the master is to do; a refusal is told."""
        try:
            await self.client.call(verb, **parameters)
        except ControlError as error:
            log.warning("%s: %s", verb, error)

    def statsd(self) -> StatsdClient:
        """Return the line to statsd that the options describe."""
        options = self.options
        prefix = f"circus.{options['application_name']}.watcher"
        return StatsdClient(options["host"], options["port"], prefix, options["sample_rate"])
