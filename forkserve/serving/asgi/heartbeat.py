"""Pings to the client of a WebSocket, to find out whether it is there (RFC 6455 section 5.5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Heartbeat", "Keepalive"]


class Keepalive:
    """Seconds between pings, and until the answer to one; 0 for none."""

    __slots__ = ("interval", "timeout")

    def __init__(self, interval: float, timeout: float) -> None:
        self.interval = interval
        self.timeout = timeout


class Heartbeat:
    """Calls `ping` each interval, and `give_up` if nothing was received within the timeout after it.

    Any bytes count, not only the answer: a client in the middle of a long message cannot send a pong. `ping` returns
    False if no answer is expected.
    """

    __slots__ = ("_give_up", "_keepalive", "_loop", "_ping", "_timer", "heard")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keepalive: Keepalive,
        *,
        ping: Callable[[], bool],
        give_up: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._keepalive = keepalive
        self._ping = ping
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self.heard = False
        """Set by the owner when bytes have arrived, or when it does not read."""
        if keepalive.interval:
            self._timer = loop.call_later(keepalive.interval, self._beat)

    def stop(self) -> None:
        """Stop pinging."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        interval, timeout = self._keepalive.interval, self._keepalive.timeout
        self._timer = None
        self.heard = False
        if self._ping() and timeout:
            self._timer = self._loop.call_later(timeout, self._check)
        else:
            self._timer = self._loop.call_later(interval, self._beat)

    def _check(self) -> None:
        self._timer = None
        if self.heard:
            later = max(0.0, self._keepalive.interval - self._keepalive.timeout)
            self._timer = self._loop.call_later(later, self._beat)
        else:
            self._give_up()
