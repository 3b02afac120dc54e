"""How many connections a worker may hold, and which make room at the limit.

Theory of operation. At the cap, the connections that have been idle longest make room, as in nginx; if none is, the
acceptor leaves its listeners to siblings and to the kernel's queue until a connection ends or becomes idle. Descriptors
may run out nevertheless, if the application opens more than was left to it, or the whole system has none (accept(2):
EMFILE, ENFILE). Then the cap is lowered for a while, so that the application gets the next free descriptors.

Rules: nothing waits in a loop. The log has one line for it, not one for each client.
"""

from __future__ import annotations

import heapq
import logging
import os
import resource
import select

from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import LINGER, Connections
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.native import poll
from forkserve.serving.engine.phases import Phase
from forkserve.serving.engine.protocols import EngineLoop

__all__ = ["Gate", "cap_of"]

log = logging.getLogger("forkserve.engine")

SPARE = 16
"""Connections by which the cap is lowered when descriptors have run out, or a quarter of them if that is less."""
RECOVERY = 10.0
"""Seconds after which the cap is tried again."""
QUIET = 60.0
"""Seconds between two lines in the log."""
IDLE = 1.0
"""Seconds after which a connection without a request may be closed for another: bytes in transit have arrived by
then.
"""
AT_ONCE = 32
"""Most connections closed at once to make room; each check scans all of them."""
RESERVED = 32
"""Least number of descriptors left to the application; a quarter of all, if that is more."""
UNLIMITED = 1 << 30


def cap_of(wanted: int | None) -> int:
    """Return how many connections a worker may hold: as many as requested (0: no limit).

    By default (None) as many as the limit of descriptors (RLIMIT_NOFILE) allows besides those open now, and those that
    the application may need.
    """
    if wanted is not None:
        return wanted or UNLIMITED
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return UNLIMITED
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = RESERVED
    return max(8, limit - used - max(RESERVED, limit // 4))


class Gate:
    """Keeps the number of connections of one loop below `cap`."""

    def __init__(self, loop: EngineLoop, connections: Connections, cap: int) -> None:
        self._loop = loop
        self._connections = connections
        self._cap = self._limit = cap
        self._recovery = FOREVER
        self._told = -QUIET

    @property
    def is_open(self) -> bool:
        """True while there is room for one more."""
        return len(self._connections.by_fd) < self._limit

    def room(self) -> int:
        """Return how many more connections may be accepted; those idle longest are closed for them."""
        room = self._limit - len(self._connections.by_fd)
        if room > 0:
            return room
        return self._make_room(1 - room)

    def on_full(self) -> None:
        """Called when a listener is paused, as there is no room."""
        self._tell(f"{len(self._connections)} connections are open, the limit (--max-connections)")

    def on_exhausted(self, error: OSError) -> None:
        """Called when the process or the system has no more descriptors or memory: leaves some to the application."""
        held = len(self._connections)
        self._tell(f"cannot accept beside {held} connections: {error.strerror}")
        self._limit = max(1, min(self._limit, held) - min(SPARE, held // 4))
        self._recovery = self._loop.now + RECOVERY

    def sweep(self, now: float) -> None:
        """Restore the original cap, some time after descriptors have run out."""
        if now >= self._recovery:
            self._limit, self._recovery = self._cap, FOREVER

    def _make_room(self, wanted: int) -> int:
        """Close those idle longest, several at once since scanning is expensive; returns the room."""
        connections = self._connections
        idle = [(age, number) for number, conn in connections.by_fd.items() if (age := self._idle(conn)) >= IDLE]
        for _, number in heapq.nlargest(max(wanted, min(AT_ONCE, len(idle) // 8)), idle):
            conn = connections.by_fd[number]
            if not _speaks(conn):
                connections.close(conn)
        return max(0, self._limit - len(connections))

    def _idle(self, conn: Connection) -> float:
        """Return for how many seconds a connection has been without a request; 0 if it has one."""
        timeouts, phase = self._loop.timeouts, conn.phase
        if phase is Phase.LINGERING:
            return LINGER - (conn.deadline - self._loop.now)
        if conn.exchange is not None or conn.inbox:
            return 0.0
        if phase is Phase.IDLE:
            return timeouts.keep_alive - (conn.deadline - self._loop.now)
        if phase is Phase.FIRST_BYTE and timeouts.header_timeout != FOREVER:
            return timeouts.header_timeout - (conn.deadline - self._loop.now)
        return 0.0

    def _tell(self, what: str) -> None:
        if self._loop.now - self._told >= QUIET:
            self._told = self._loop.now
            log.warning("accepting is paused: %s; it goes on when there is room", what)


def _speaks(conn: Connection) -> bool:
    """Tell whether bytes of a request have arrived: closing would lose it."""
    poller = poll()
    poller.register(conn.fd, select.POLLIN)
    return bool(poller.poll(0))
