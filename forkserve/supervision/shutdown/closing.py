"""The queues that close as the whole stack stops: nothing new enters, what waits is taken, then clients are refused.

Theory of operation. When the last watcher that reads a queue begins to stop, the queue is sealed: it can only get
shorter, and the workers take what waits in it. Once it has been empty for a while, and all its readers have sent
STOPPING=1, listening ends (shutdown(2)), so that a client is refused at once instead of waiting for the slowest request
in flight. A program that sends nothing is not disturbed: its queue stays sealed to the end.

Rules: only queues that forkserve has bound. One that systemd has handed over, or keeps in its store, goes on queueing
for the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from forkserve.socketpool import SocketPool
from forkserve.supervision.events import Event, SocketClosed
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.process import Process

__all__ = ["QueueCloser"]

QUIET = 0.25
"""Seconds for which a queue must have been empty: by then handshakes in progress have ended."""

_TICK = 0.05
"""Seconds between two checks."""


@dataclass(slots=True)
class QueueCloser:
    """`filled` has the instant at which each sealed queue was last seen with something in it, or with a reader at
    work.
    """

    pool: SocketPool
    loop: Loop
    processes: Callable[[], Iterable[Process]]
    emit: Callable[[Event], None]
    filled: dict[int, float] = field(default_factory=dict)
    _timer: Timer | None = None

    def seal(self, queues: Iterable[int]) -> None:
        """Seal these queues."""
        for number in queues:
            listener = self.pool.queues.get(number)
            if listener is None or self.pool.store.keeps(number):
                continue
            if listener.is_ours and listener.is_open and number not in self.filled:
                listener.seal()
                self.filled[number] = self.loop.now()
        self._arm()

    def go_on(self, filled: Mapping[int, float]) -> None:
        """Go on from the state of another one."""
        self.filled = dict(filled)
        self._arm()

    def close(self) -> None:
        """Stop checking."""
        self.filled.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self.filled and self._timer is None:
            self._timer = self.loop.call_later(_TICK, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self.loop.now()
        serving = {number for each in self.processes() if not each.said_stopping for number in each.queues}
        for number, since in tuple(self.filled.items()):
            listener = self.pool.queues.get(number)
            if listener is None or not listener.is_open:
                del self.filled[number]
            elif number in serving or listener.is_waiting:
                self.filled[number] = now
            elif now - since >= QUIET:
                del self.filled[number]
                listener.refuse()
                self.emit(SocketClosed(socket=listener.name, address=listener.address))
        self._arm()
