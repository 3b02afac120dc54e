"""The PROXY protocol's header in front of a connection: who the client is, said by the balancer that it came through.

Rules: only where it is switched on, and then it must be there (but for `auto`) and come from an address that may send
it. It has the time limit of a request's head.
"""

from __future__ import annotations

from collections.abc import Callable

from forkserve.config.serving import ProxyProtocol
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
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
            return self.kind is ProxyProtocol.AUTO
        received = b""

        def receive(data: bytes) -> None:
            nonlocal received
            received += data
            if not data:
                connections.lose(conn)
                return
            try:
                rest = self.read(conn, received)
            except Refusal as refusal:
                conn.receive = conn.exchange = None
                connections.refuse(conn, refusal)
                return
            if rest is not None:
                conn.receive = None
                conn.exchange = None
                conn.phase = Phase.FIRST_BYTE
                if rest:
                    go_on(conn, rest)

        conn.phase = Phase.HEAD
        conn.exchange = FINISHED
        conn.receive = receive
        return True

    def read(self, conn: Connection, received: bytes) -> bytes | None:
        """Note what the header says; returns the bytes behind it, None while it is not whole. Raises Refusal."""
        second = V2.startswith(received[:12])
        first = V1.startswith(received[:6])
        if self.kind is ProxyProtocol.AUTO and not (first or second):
            return received
        if (self.kind is ProxyProtocol.V1 and not first) or (self.kind is ProxyProtocol.V2 and not second):
            raise Refusal(400, "no PROXY header of the version that was agreed")
        header = read_proxy_header(received)
        if header is None:
            return None
        if header.source is not None:
            conn.remote = (header.source[0], str(header.source[1]))
        return received[header.size :]
