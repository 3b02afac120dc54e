"""Publishing to any number of subscribers, none of which can hold up another.

Theory of operation. Each subscriber has a bounded queue of its messages. When it is full, the subscriber loses new
ones, which is logged from time to time; the others get everything. An XPUB socket knows when there is no subscriber.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import zmq

from forkserve.control.asyncclient import AsyncControlClient
from forkserve.errors import ControlError
from forkserve.sidecars.circus.topics import published

__all__ = ["Publisher", "publish_events"]

log = logging.getLogger("forkserve.circus")

TOLD_EACH = 60.0
"""Seconds between two lines about subscribers that do not read."""
AGAIN = 0.5
"""Seconds until the stream of events is requested again after its end."""


class Publisher:
    """One XPUB socket; `what` is its name in the log."""

    def __init__(self, socket: zmq.Socket[bytes], what: str) -> None:
        self._socket = socket
        self._what = what
        self._topics: set[bytes] = set()
        self._told_at = float("-inf")
        socket.setsockopt(zmq.XPUB_NODROP, 1)

    @property
    def has_subscribers(self) -> bool:
        """True while there is a subscriber."""
        with contextlib.suppress(zmq.Again):
            while True:
                message = self._socket.recv(zmq.DONTWAIT)
                if message[:1] == b"\x01":
                    self._topics.add(message[1:])
                elif message[:1] == b"\x00":
                    self._topics.discard(message[1:])
        return bool(self._topics)

    def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Send a message to the subscribers of its topic; never waits."""
        if not self.has_subscribers:
            return
        frames = [topic.encode(), json.dumps(payload).encode()]
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            self._tell()
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            with contextlib.suppress(zmq.Again):
                self._socket.send_multipart(frames, zmq.DONTWAIT)
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def _tell(self) -> None:
        if time.monotonic() - self._told_at >= TOLD_EACH:
            self._told_at = time.monotonic()
            log.warning("%s: a subscriber does not read, messages for it are dropped", self._what)


async def publish_events(client: AsyncControlClient, publisher: Publisher) -> None:
    """Publish each event of the master, until cancelled; a broken stream is resumed."""
    last = 0
    while True:
        with contextlib.suppress(ControlError):
            async for event in client.follow("events", follow=True, after=last or None):
                last = event["id"]
                found = published(event)
                if found is not None:
                    publisher.publish(*found)
        await asyncio.sleep(AGAIN)
