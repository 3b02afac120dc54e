"""The connections of a driver, and the ways in which one ends.

Rules: a connection is closed here and nowhere else. After the last response the connection is drained before it is
closed (lingering close), so that the response is not lost to a reset (RFC 9112 section 9.6).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, ValuesView

from forkserve.serving.ends import End
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.files import FilePart
from forkserve.serving.engine.phases import READABLE, ConnectionLost, Phase
from forkserve.serving.engine.protocols import FINISHED, ConnectionOwner, Exchange, Runner
from forkserve.serving.engine.refusals import Refusals
from forkserve.serving.http.errors import error_response
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.response import Responder

__all__ = ["LINGER", "Connections"]

LINGER = 2.0
"""Seconds in which a client may still read the response that closes its connection."""
LAST_LINGER = 0.5
"""The same while draining: a client that does not close its side must not keep the worker."""
IDLE, RUNNING, LINGERING, CLOSED = Phase.IDLE, Phase.RUNNING, Phase.LINGERING, Phase.CLOSED


class Connections:
    """The open connections by descriptor; `on_close` are called after each close."""

    def __init__(self, owner: ConnectionOwner, runner: Runner, responder: Responder, refusals: Refusals) -> None:
        self.by_fd: dict[int, Connection] = {}
        self.refusals = refusals
        self.on_close: list[Callable[[], None]] = []
        self._owner = owner
        self._lingering = LINGER
        self._runner = runner
        self._responder = responder

    def __len__(self) -> int:
        return len(self.by_fd)

    def values(self) -> ValuesView[Connection]:
        """Return a view of them; closing one changes it."""
        return self.by_fd.values()

    def linger(self, conn: Connection) -> None:
        """Close so that the response is not lost: bytes that come after a close cause a reset, so our side is closed
        first, and the client's is read to its end (RFC 9112 9.6).
        """
        conn.phase = LINGERING
        conn.deadline = self._owner.now + self._lingering
        conn.inbox = b""
        if conn.half_closed:
            self.part(conn)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.watch(READABLE)
        except OSError:
            self.close(conn)

    def hasten(self) -> None:
        """Called when draining begins: from now on clients have less time to close their side."""
        self._lingering = LAST_LINGER
        latest = self._owner.now + LAST_LINGER
        for conn in self.by_fd.values():
            if conn.phase is LINGERING:
                conn.deadline = min(conn.deadline, latest)

    def part(self, conn: Connection) -> None:
        """Close after everything was sent; under TLS the client is notified, or it takes the end for a truncation
        (RFC 8446 6.1).
        """
        if not conn.raw:
            with contextlib.suppress(OSError):
                conn.sock.shutdown(socket.SHUT_WR)
        self.close(conn)

    def lose(self, conn: Connection) -> None:
        """Drop a connection; a running exchange is notified, and ends first."""
        if conn.phase is IDLE and conn.exchange is None:
            self.part(conn)
            return
        running = conn.phase is RUNNING or conn.phase is CLOSED
        conn.phase = CLOSED
        exchange = conn.exchange
        if exchange is not None:
            exchange.end(End.LOST)
        if exchange is None or exchange is FINISHED or not running:
            self.close(conn)
            return
        conn.forget_events()
        if conn.parked:
            conn.parked = False
            self._runner.resume(exchange)
        else:
            self._runner.notify(exchange)

    def refuse(self, conn: Connection, refusal: Refusal) -> None:
        """Answer invalid or excessive input, and close; nothing after it is read as a request."""
        exchange = conn.exchange
        self.refusals.refused(conn, refusal)
        conn.reader = conn.body = None
        conn.inbox = b""
        if exchange is not None and conn.phase is RUNNING and not exchange.end(End.BROKEN_BODY):
            self.lose(conn)
            return
        conn.exchange = FINISHED
        conn.close_after = conn.refused = True
        if exchange is not FINISHED:
            # Else this is the end of an unread body: its request has been answered.
            self._answer(conn, exchange, refusal)
        if conn.phase is CLOSED:
            self.close(conn)
        elif conn.out is None:
            self.linger(conn)

    def _answer(self, conn: Connection, exchange: Exchange | None, refusal: Refusal) -> None:
        payload = error_response(self._responder, refusal.status, more=refusal.fields)[0]
        with contextlib.suppress(ConnectionLost):
            conn.write(payload)
        self.refusals.answered(conn, exchange, refusal.status, len(payload) - payload.index(b"\r\n\r\n") - 4)

    def close(self, conn: Connection) -> None:
        """Close and forget."""
        conn.phase = CLOSED
        if self.by_fd.get(conn.fd) is conn:
            del self.by_fd[conn.fd]
            for act in self.on_close:
                act()
        for data in conn.out or ():
            if type(data) is FilePart:
                data.close()
        conn.reader = conn.body = conn.out = conn.exchange = conn.interrupted = conn.receive = None
        conn.sock.close()

    def lose_all(self) -> None:
        """Drop all."""
        for conn in list(self.by_fd.values()):
            self.lose(conn)
