"""Whether a worker accepts: it stops when it holds as many connections as it may, or when descriptors run out.

Theory of operation. At the cap, the connections that have been idle longest make room, as in nginx; if none is, the
listeners are left to siblings and to the kernel's queue until a connection ends or becomes idle. Descriptors run out
nevertheless where the application opens more than was left to it, or the whole system has none (accept(2): EMFILE,
ENFILE). Then the cap comes down for a while, so that the next free descriptors are the application's.

Rules: nobody waits in a loop. A listener on pause is out of epoll, and comes back when a connection is closed or at
a sweep. The log has one line for it, not one for each client.
"""

from __future__ import annotations

import heapq
import logging
import os
import resource
import select
from typing import TYPE_CHECKING

from forkserve.serving.engine.connection import Connection, Phase
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.native import poll

if TYPE_CHECKING:
    from forkserve.serving.engine.sockets import Sockets

__all__ = ["Gate", "cap_of"]

log = logging.getLogger("forkserve.engine")

PAUSE = 0.5
"""Seconds without accepting: the queue keeps the clients, and no CPU is burnt."""
SPARE = 16
"""Connections by which the cap comes down when descriptors have run out, or a quarter of them where that is less."""
RECOVERY = 10.0
"""Seconds after which the cap is tried again."""
QUIET = 60.0
"""Seconds between two lines in the log."""
IDLE = 1.0
"""Seconds after which a connection without a request may be closed for another: what is on its way has come by then."""
AT_ONCE = 32
"""Connections closed at once to make room, at most; each look goes over all that there are."""
RESERVED = 32
"""Descriptors left to the application at least; a quarter of all, where that is more."""
UNLIMITED = 1 << 30


def cap_of(wanted: int | None) -> int:
    """Return how many connections a worker may hold: as many as were asked for (0: no limit).

    By default (None) as many as the limit of descriptors (RLIMIT_NOFILE) allows beside those that are open by now, and
    those that the application may need.
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
    """Keeps one driver's number of connections below `cap`."""

    def __init__(self, driver: Sockets, cap: int) -> None:
        self.driver = driver
        self.cap = self._limit = cap
        self.shut = False
        """Whether a listener is on pause."""
        self._recovery = FOREVER
        self._told = -QUIET

    def room(self) -> int:
        """Return how many more connections may be accepted; what was idle longest is closed for them."""
        room = self._limit - len(self.driver.connections)
        if room > 0:
            return room
        return self._make_room(1 - room)

    def fill(self, listening: Listening) -> None:
        """Pause a listener, as there is no room."""
        self._tell(f"{len(self.driver.connections)} connections are held, as many as may be (--max-connections)")
        self.pause(listening)

    def exhaust(self, listening: Listening, error: OSError) -> None:
        """Pause a listener, as the process or the system has no descriptor or memory for more; leave it some."""
        held = len(self.driver.connections)
        self._tell(f"cannot accept beside {held} connections: {error.strerror}")
        self._limit = max(1, min(self._limit, held) - min(SPARE, held // 4))
        self._recovery = self.driver.now + RECOVERY
        self.pause(listening)

    def pause(self, listening: Listening) -> None:
        """Accept from this listener no more for now; what waits in its queue stays there, or is a sibling's."""
        driver = self.driver
        if listening.paused_until:
            return
        self.shut = True
        listening.paused_until = driver.now + PAUSE
        driver.epoll.unregister(listening.fd)
        driver.next_sweep = min(driver.next_sweep, listening.paused_until)

    def freed(self) -> None:
        """Accept again, if there is room: a connection was closed."""
        if len(self.driver.connections) < self._limit:
            self._open(FOREVER)

    def sweep(self, now: float) -> None:
        """Accept again from listeners that were paused for long enough, and try the cap that was meant."""
        if now >= self._recovery:
            self._limit, self._recovery = self.cap, FOREVER
        if self.shut:
            self._open(now)

    def _open(self, now: float) -> None:
        driver = self.driver
        if driver.draining:
            return
        self.shut = False
        for listening in driver.listenings:
            if listening.paused_until > now:
                self.shut = True
            elif listening.paused_until:
                listening.paused_until = 0.0
                driver.watch_listener(listening)

    def _make_room(self, wanted: int) -> int:
        """Close what has been idle longest, some at once since looking is what costs; returns the room there is."""
        driver = self.driver
        idle = [(age, number) for number, conn in driver.connections.items() if (age := self._idle(conn)) >= IDLE]
        for _, number in heapq.nlargest(max(wanted, min(AT_ONCE, len(idle) // 8)), idle):
            conn = driver.connections[number]
            if not _speaks(conn):
                driver.close_connection(conn)
        return max(0, self._limit - len(driver.connections))

    def _idle(self, conn: Connection) -> float:
        """Return for how many seconds a connection has been without a request; 0 if it has one."""
        limits, phase = self.driver.limits, conn.phase
        if conn.exchange is not None or conn.inbox:
            return 0.0
        if phase is Phase.IDLE:
            return limits.keep_alive - (conn.deadline - self.driver.now)
        if phase is Phase.FIRST_BYTE and limits.header != FOREVER:
            return limits.header - (conn.deadline - self.driver.now)
        return 0.0

    def _tell(self, what: str) -> None:
        if self.driver.now - self._told >= QUIET:
            self._told = self.driver.now
            log.warning("accepting is paused: %s; it goes on when there is room", what)


def _speaks(conn: Connection) -> bool:
    """Tell whether bytes of a request have come: closing would lose it."""
    poller = poll()
    poller.register(conn.fd, select.POLLIN)
    return bool(poller.poll(0))
