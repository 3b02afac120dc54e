"""Pings to the client of a WebSocket, to know that it is there (RFC 6455 section 5.5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Heartbeat", "Keepalive"]


class Keepalive:
    """Seconds between pings, and for the answer to one; 0 for none."""

    __slots__ = ("interval", "timeout")

    def __init__(self, interval: float, timeout: float) -> None:
        self.interval = interval
        self.timeout = timeout


class Heartbeat:
    """Calls `ping` each interval, and `give_up` if nothing was heard within the timeout after it.

    Whatever comes counts, not the answer alone: a client that is sending a long message cannot put one into it. `ping`
    returns False when no answer is to be awaited.
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
        """Set by the owner when bytes have come, or when it does not listen."""
        if keepalive.interval:
            self._timer = loop.call_later(keepalive.interval, self._beat)

    def stop(self) -> None:
        """Ping no more."""
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
