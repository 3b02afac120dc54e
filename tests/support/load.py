"""Clients that ask all the time, a connection each, and count what becomes of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from types import TracebackType

__all__ = ["Load"]

PATIENCE = 20.0
"""Seconds until a request counts as lost; a connection attempt that is made again takes one or two."""


class Load:
    """`lost` are connections that the kernel took and nobody answered, `refused` those that found nobody.

    `address` may be changed while it runs: the next request goes there. `pause` is how many seconds a client rests
    between two requests, so that clients do not take the processors from what is tested; `waits` has the begin
    (monotonic) and the duration of each that was answered. With `tls`, the connections are made by it.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        clients: int = 4,
        pause: float = 0.002,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.answered = self.refused = 0
        self.waits: list[tuple[float, float]] = []
        self._pause, self._tls = pause, tls
        self.lost: list[str] = []
        self.first = threading.Event()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_and_ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        assert self.first.wait(PATIENCE), "nobody answers"
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _where: TracebackType | None) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def more(self, number: int) -> None:
        """Wait until so many more have been answered."""
        wanted = self.answered + number
        pause = threading.Event()
        for _ in range(int(PATIENCE / 0.01)):
            if self.answered >= wanted:
                return
            pause.wait(0.01)
        raise AssertionError(f"{wanted - self.answered} of {number} requests are not answered; lost: {self.lost[:5]}")

    def _ask_and_ask(self) -> None:
        while not self._over.is_set():
            address, begun = self.address, time.monotonic()
            family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
            with socket.socket(family) as client:
                client.settimeout(PATIENCE)
                try:
                    client.connect(address)
                except OSError:
                    self.refused += 1
                    self._over.wait(0.005)
                    continue
                self._ask(client, begun)
            if self._pause:
                self._over.wait(self._pause)

    def _ask(self, client: socket.socket, begun: float) -> None:
        received = b""
        try:
            with contextlib.ExitStack() as stack:
                if self._tls is not None:
                    client = stack.enter_context(self._tls.wrap_socket(client))
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while part := client.recv(4096):
                    received += part
        except OSError as error:
            self.lost.append(f"{error!r} after {received!r}")
            return
        if received.startswith(b"HTTP/1.") and b"hello" in received:
            self.answered += 1
            self.waits.append((begun, time.monotonic() - begun))
            self.first.set()
        else:
            self.lost.append(f"closed after {received!r}")
