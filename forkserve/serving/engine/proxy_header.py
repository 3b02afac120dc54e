"""The PROXY protocol's header in front of a connection: the client's address, from the balancer that it came through.

Rules: only if it is enabled, and then it is required (except for `auto`) and must come from a trusted address. It has
the time limit of a request's head. It comes before TLS (proxy-protocol.txt, section 2), which begins with the first
byte after it: so under TLS no byte after it may be read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import cast

from forkserve.config.serving import ProxyProtocol
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.native import Socket
from forkserve.serving.engine.phases import Phase
from forkserve.serving.engine.protocols import FINISHED
from forkserve.serving.http.forwarded import TrustedProxies
from forkserve.serving.http.proxyprotocol import read_proxy_header
from forkserve.serving.http.refusal import Refusal

__all__ = ["ProxyHeaderRule"]

V2 = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY "


class ProxyHeaderRule:
    """The rule of one listener."""

    def __init__(self, kind: ProxyProtocol, trusted: TrustedProxies) -> None:
        self.kind = kind
        self.trusted = trusted

    def begin(self, conn: Connection, connections: Connections, go_on: Callable[[Connection, bytes], None]) -> bool:
        """Take the bytes of a new connection until its header is whole, then `go_on`; False if it must be closed."""
        if not self.trusted.trusts(conn.remote[0] or None):
            if self.kind is ProxyProtocol.AUTO:
                return conn.start_tls()
            connections.refusals.cut_off(conn, "--proxy-allow-from does not name its address")
            return False
        beginning = _Beginning(self, conn, connections, go_on)
        if conn.listening.tls is not None:
            conn.recv = beginning.peek
        conn.phase = Phase.HEAD
        conn.exchange = FINISHED
        conn.receive = beginning.take
        return True

    def read(self, conn: Connection, received: bytes) -> bytes | None:
        """Apply the header; returns the bytes after it, None while it is not whole. Raises Refusal."""
        second = V2.startswith(received[:12])
        first = V1.startswith(received[:6])
        if self.kind is ProxyProtocol.AUTO and not (first or second):
            return received
        if (self.kind is ProxyProtocol.V1 and not first) or (self.kind is ProxyProtocol.V2 and not second):
            raise Refusal(400, "no PROXY header of the configured version")
        header = read_proxy_header(received)
        if header is None:
            return None
        if header.source is not None:
            conn.remote = (header.source[0], str(header.source[1]))
        return received[header.size :]


class _Beginning:
    """The bytes of one connection's header so far."""

    __slots__ = ("_conn", "_connections", "_go_on", "_received", "_rule")

    def __init__(
        self,
        rule: ProxyHeaderRule,
        conn: Connection,
        connections: Connections,
        go_on: Callable[[Connection, bytes], None],
    ) -> None:
        self._rule = rule
        self._conn = conn
        self._connections = connections
        self._go_on = go_on
        self._received = b""

    def peek(self, size: int) -> bytes:
        """Look at what has arrived and leave it to `_read`, like `Connection.recv` if TLS begins after the header."""
        return cast(Socket, self._conn.sock).recv(size, socket.MSG_PEEK)

    def take(self, data: bytes) -> None:
        """Consume bytes; b"" is their end."""
        conn, known = self._conn, len(self._received)
        self._received += data
        if not data:
            self._connections.lose(conn)
            return
        try:
            rest = self._rule.read(conn, self._received)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if conn.listening.tls is not None:
            self._read(len(self._received) - len(rest or b"") - known)
        if rest is not None:
            self._end(rest)

    def _read(self, size: int) -> None:
        """Read this many of the bytes looked at."""
        if size > 0:
            self._conn.sock.recv(size)

    def _refuse(self, refusal: Refusal) -> None:
        conn = self._conn
        conn.receive = conn.exchange = None
        if conn.listening.tls is None:
            self._connections.refuse(conn, refusal)
        else:
            # There is no TLS yet that could tell it.
            self._connections.refusals.cut_off(conn, refusal.reason)
            self._connections.close(conn)

    def _end(self, rest: bytes) -> None:
        """Go on with what follows the header."""
        conn = self._conn
        conn.receive = None
        conn.exchange = None
        conn.phase = Phase.FIRST_BYTE
        if conn.listening.tls is not None:
            if not conn.start_tls():
                self._connections.close(conn)
        elif rest:
            self._go_on(conn, rest)
