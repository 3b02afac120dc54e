"""Clients that stay: kept connections, and which process holds each."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Crowd", "Hold"]

PATIENCE = 20.0
"""Seconds until a test gives up on what should come at once."""


class Crowd:
    """Kept connections to one address; `pids` has the process of each."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self._address = address
        self._family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.pids: dict[socket.socket, int] = {}

    @property
    def counts(self) -> Counter[int]:
        """How many connections each process has, of those that have any."""
        return Counter(self.pids.values())

    @property
    def gap(self) -> int:
        """Most minus least, of those that have any."""
        return max(self.counts.values()) - min(self.counts.values())

    def come(self, number: int) -> None:
        """Come one after another: each has its answer before the next comes."""
        for _ in range(number):
            client = self.knock()
            self.pids[client] = answer(client)

    def burst(self, number: int) -> None:
        """Come all at once."""
        clients = [self.knock() for _ in range(number)]
        for client in clients:
            self.pids[client] = answer(client)

    def knock(self, path: str = "/") -> socket.socket:
        """Connect and ask, without waiting for the answer; the socket is the caller's."""
        client = socket.socket(self._family)
        client.settimeout(PATIENCE)
        client.connect(self._address)
        client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        return client

    def leave(self, pid: int) -> int:
        """Close all connections of one process; returns how many there were."""
        leaving = [client for client, holder in self.pids.items() if holder == pid]
        for client in leaving:
            client.close()
            del self.pids[client]
        return len(leaving)

    def close(self) -> None:
        for client in self.pids:
            client.close()
        self.pids.clear()


def answer(client: socket.socket) -> int:
    """Return the process that answers."""
    received = b""
    while (found := re.search(rb"pid=(\d+)\.", received)) is None:
        part = client.recv(4096)
        assert part, f"closed after {received!r}"
        received += part
    return int(found[1])


class Hold:
    """Holds processes within the application: `entered()` waits until one is there, `release()` lets one go on."""

    def __init__(self, folder: Path) -> None:
        self.environ = {"ENTERED": str(folder / "entered"), "LEAVE": str(folder / "leave")}
        for path in self.environ.values():
            os.mkfifo(path)
        self._entered, self._leave = (os.open(path, os.O_RDWR) for path in self.environ.values())

    def entered(self) -> None:
        ready, _, _ = select.select([self._entered], [], [], PATIENCE)
        assert ready, "the request did not reach the application"
        os.read(self._entered, 1)

    def release(self) -> None:
        os.write(self._leave, b".")

    def close(self) -> None:
        os.close(self._entered)
        os.close(self._leave)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Hold]:
    hold = Hold(folder)
    try:
        yield hold
    finally:
        hold.close()
