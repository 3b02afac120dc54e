"""How much memory the unfinished requests of all clients together may take.

Theory of operation. A single connection has limits: a head is 64 KiB at most, a body goes to a file above
`--body-in-memory`. The sum has one as well. Received bytes are counted as if none were ever released, which costs an
addition; when that reaches the limit, all connections are asked what they really hold. If it is too much, bodies go to
files at once instead of later. If the rest, heads and what has no file, is still too much, the largest requests are
refused with 503, a WebSocket with 1013. So the worker holds the limit plus what one turn of the loop receives, and a
client with a usual request is not affected. Bytes that outlive their connection, since the application has not taken
them, count as well, and are dropped first.
"""

from __future__ import annotations

import logging
from weakref import WeakSet

from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.protocols import EngineLoop, Leftover
from forkserve.serving.http.refusal import Refusal

__all__ = ["Memory"]

log = logging.getLogger("forkserve.engine")

QUIET = 60.0
"""Seconds between two lines in the log."""


class Memory:
    """What the connections of one driver hold of unfinished requests; `limit` in bytes, 0 for none.

    `tight` is true while there is so much that bodies are not kept in memory.
    """

    def __init__(self, loop: EngineLoop, connections: Connections, limit: int) -> None:
        self._loop = loop
        self._connections = connections
        self.limit = limit or 1 << 62
        self.tight = False
        self.leftovers: WeakSet[Leftover] = WeakSet()
        """What is left of closed connections."""
        self._bound = 0
        self._told = -QUIET

    def took(self, size: int) -> None:
        """Count bytes that have arrived and are not a request yet."""
        self._bound += size
        if self._bound > self.limit:
            # At the begin of the next turn: now a connection is being served.
            self._loop.sweep_by(self._loop.now)

    def sweep(self) -> None:
        """Check what is held, if it may be too much."""
        if not self.tight and self._bound <= self.limit:
            return
        held = [(size, conn) for conn in self._connections.values() if (size := conn.in_memory)]
        total = sum(size for size, _ in held) + sum(each.in_memory for each in self.leftovers)
        if total > self.limit - self.limit // 8:
            self.tight = True
            self._relieve(held, total)
        elif total < self.limit // 2:
            self.tight = False
        # Too little rather than too much: the next look comes when an eighth more has come.
        self._bound = min(total, self.limit - self.limit // 8)

    def _relieve(self, held: list[tuple[int, Connection]], total: int) -> None:
        """Move bodies to files, then refuse the largest of the rest until there is some room."""
        while self.leftovers:
            self.leftovers.pop().drop()
        held.sort(key=lambda each: -each[0])
        refused = 0
        for _, conn in held:
            if not self._spill(conn):
                refused += 1
        left = [
            (size, conn)
            for _, conn in held
            if (conn.is_unfinished or conn.receive is not None) and (size := conn.in_memory)
        ]
        unfinished = sum(size for size, _ in left)
        if unfinished > self.limit:
            for size, conn in left:
                self._give_up(conn)
                refused += 1
                unfinished -= size
                if unfinished <= self.limit - self.limit // 4:
                    break
        self._tell(total, refused)

    def _spill(self, conn: Connection) -> bool:
        """Move a connection's body to a file; False if that was not possible, and it is refused."""
        if conn.exchange is None:
            return True
        try:
            conn.exchange.spill()
        except Refusal as refusal:
            self._connections.refuse(conn, refusal)
            return False
        return True

    def _give_up(self, conn: Connection) -> None:
        if conn.receive is not None and conn.exchange is not None:
            conn.exchange.shed()
        else:
            self._connections.refuse(conn, Refusal(503, "too much is held for unfinished requests"))

    def _tell(self, total: int, refused: int) -> None:
        if self._loop.now - self._told >= QUIET:
            self._told = self._loop.now
            log.warning(
                "unfinished requests hold %d bytes (--request-memory): bodies go to files now, %d requests are refused",
                total, refused,
            )  # fmt: skip
