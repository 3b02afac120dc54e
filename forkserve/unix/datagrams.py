"""Sends UDP datagrams to a collector: each is sent or lost, and nothing waits for it (udp(7))."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["DatagramSender"]


class DatagramSender:
    """Sends to one address. The constructor looks up the name of a host, unless it is `numeric`; raises OSError."""

    def __init__(self, host: str, port: int, *, numeric: bool = False) -> None:
        flags = socket.AI_NUMERICHOST if numeric else 0
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)[0]
        self._address: Any = address
        self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send one datagram; it is lost when the queue is full, or nobody listens there."""
        try:
            self._socket.sendto(data, self._address)
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
