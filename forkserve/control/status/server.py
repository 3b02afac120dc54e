"""The health server of the master: plain HTTP/1.1 from its own loop, on a TCP port or a Unix socket.

No client can keep another from its answer: the number of connections is limited, and for one more, the one idle longest
is closed.
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Mapping
from http import HTTPStatus
from socket import AddressFamily, socket
from typing import Any

from forkserve.config.address import Address
from forkserve.config.sockets import SocketOptions
from forkserve.control.connection import ControlLoop, ControlTimer, Handler, ServedClient
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.state.sockets import listener_from_data, listener_to_data
from forkserve.unix.descriptors import number_of
from forkserve.unix.listeners import BoundListener, bind

__all__ = ["StatusServer"]

MOST_CONNECTIONS = 64
AT_A_TIME = 16
"""Clients that are accepted at a stretch."""
ACCEPT_PAUSE = 0.2
"""Seconds for which no client is accepted after descriptors have run out."""


class StatusServer:
    """Listens at an address and hands each request to `handler`; raises BindError."""

    def __init__(self, address: Address, loop: ControlLoop, handler: Handler) -> None:
        self._begin(bind(_options(address)), loop, handler)

    def _begin(self, listener: BoundListener, loop: ControlLoop, handler: Handler) -> None:
        self._loop = loop
        self._handler = handler
        self._connections: dict[ServedClient, None] = {}
        self._paused: ControlTimer | None = None
        self._listener = listener
        self._listener.socket.setblocking(False)
        self._listen()

    def to_data(self, completions: CompletionWriter) -> dict[str, Any]:
        """Return listener and clients as plain data."""
        clients = [each.to_data(completions) for each in self._connections]
        return {"listener": listener_to_data(self._listener), "clients": clients}

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], loop: ControlLoop, handler: Handler, completions: CompletionReader
    ) -> StatusServer | None:
        """Return a server that goes on from the state of another one; None without its descriptors."""
        listener = listener_from_data(data["listener"])
        if not listener.is_open:
            return None
        server = cls.__new__(cls)
        server._begin(listener, loop, handler)
        for each in data["clients"]:
            connection = ServedClient(socket(fileno=number_of(each["fd"])), loop, handler, server._forget)
            server._connections[connection] = None
            connection.restore(each, completions)
        return server

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._listener.address

    def close(self) -> None:
        """Stop listening, and drop every client."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.unwatch(self._listener.fd)
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close()

    def _listen(self) -> None:
        self._paused = None
        self._loop.watch(self._listener.fd, selectors.EVENT_READ, lambda _events: self._accept())

    def _accept(self) -> None:
        for _ in range(AT_A_TIME):
            try:
                client, _peer = self._listener.socket.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # descriptors ran out, and the client waits: to ask again at once would hold the loop
                self._loop.unwatch(self._listener.fd)
                self._paused = self._loop.call_later(ACCEPT_PAUSE, self._listen)
                return
            connection = ServedClient(client, self._loop, self._handler, self._forget)
            self._connections[connection] = None
            if len(self._connections) > MOST_CONNECTIONS:
                self._make_room(connection)

    def _make_room(self, newest: ServedClient) -> None:
        oldest = next((each for each in self._connections if each.is_idle and each is not newest), None)
        if oldest is not None:
            oldest.close()
        else:
            newest.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"more than {MOST_CONNECTIONS} clients at once")

    def _forget(self, connection: ServedClient) -> None:
        with contextlib.suppress(KeyError):
            del self._connections[connection]


def _options(address: Address) -> SocketOptions:
    if address.path is not None:
        return SocketOptions(name="status", path=address.path, family=AddressFamily.AF_UNIX, backlog=MOST_CONNECTIONS)
    family = AddressFamily.AF_INET6 if address.ipv6 else AddressFamily.AF_INET
    host = address.host
    return SocketOptions(name="status", host=host, port=address.port, family=family, backlog=MOST_CONNECTIONS)
