"""A WebSocket client that is as cheap as Python allows.

one masked text frame, made once, sent again when its echo is complete.

RFC 6455 section 5: a client masks, a server does not; the mask here is zero, so the payload is sent as it is. Each
echo is compared byte for byte.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.harness.model import BenchError
from bench.harness.target import HOST

__all__ = ["Result", "run"]

PAYLOAD = b"A message of a chat, neither very short nor long, to and fro."
SENT = bytes([0x81, 0x80 | len(PAYLOAD)]) + bytes(4) + PAYLOAD
ECHO = bytes([0x81, len(PAYLOAD)]) + PAYLOAD
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Result:
    """`client_cpu` near 1 says that the client was the limit."""

    messages: int
    seconds: float
    errors: dict[str, int]
    client_cpu: float

    @property
    def rate(self) -> float:
        """Echoes per second."""
        return self.messages / self.seconds


def _open(port: int) -> socket.socket:
    client = socket.create_connection((HOST, port), timeout=5.0)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(HANDSHAKE)
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        block = client.recv(4096)
        if not block:
            raise BenchError(f"no WebSocket: {data[:60]!r}")
        data += block
    if not data.startswith(b"HTTP/1.1 101"):
        raise BenchError(f"no WebSocket: {data[:60]!r}")
    return client


def _converse(sockets: dict[int, socket.socket], deadline: float) -> tuple[int, Counter[str]]:
    """Send on every socket whose echo has come, until the deadline; return the number of echoes and the failures."""
    poll, errors, messages = select.epoll(), Counter[str](), 0
    for fd, client in sockets.items():
        poll.register(fd, select.EPOLLIN)
        client.sendall(SENT)
    while sockets and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left):
            data = sockets[fd].recv(4096)
            if data == ECHO:
                messages += 1
                sockets[fd].sendall(SENT)
                continue
            # A frame in two pieces would look the same; the frames are far smaller than a segment, so it is an error.
            errors["closed" if not data else "wrong echo"] += 1
            poll.unregister(fd)
            del sockets[fd]
    poll.close()
    return messages, errors


def run(port: int, *, clients: int, seconds: float, cores: Sequence[int]) -> Result:
    """Converse on so many connections for so long; raises BenchError or OSError when they cannot be opened."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    opened: list[socket.socket] = []
    try:
        for _ in range(clients):
            opened.append(_open(port))
        start, cpu = time.monotonic(), time.process_time()
        messages, errors = _converse({client.fileno(): client for client in opened}, start + seconds)
        took = time.monotonic() - start
        return Result(messages, took, dict(errors), round((time.process_time() - cpu) / took, 3))
    except OSError as error:
        raise BenchError(f"no WebSocket: {error}") from error
    finally:
        for client in opened:
            client.close()
        os.sched_setaffinity(0, before)
