"""The client's end of the control interface for a program with an asyncio loop: concurrent calls, none blocks.

Each call is a connection, so one that waits for work delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import h11

from forkserve.control.client import refuse_strangers, refused
from forkserve.errors import ControlError

__all__ = ["AsyncControlClient"]

PORTION = 64 * 1024
AGAIN, PATIENCE = 0.01, 10.0
"""Seconds between two tries to connect to a full backlog, and until that is an error."""


class AsyncControlClient:
    """Calls verbs of one master. At most `connections` calls are in progress, the others wait for their turn."""

    def __init__(self, path: Path, *, connections: int = 64) -> None:
        self._path = path
        self._turns = asyncio.Semaphore(connections)

    async def call(self, verb: str, on_sent: Callable[[], None] = lambda: None, **parameters: Any) -> Any:
        """Call a verb and return its answer as plain data; raises ControlError.

        `on_sent` is called when the request was sent; requests are handled in the order of sending.
        """
        async with self._turns:
            with _translated(self._path):
                async with _Exchange(self._path) as exchange:
                    status = await exchange.ask(verb, parameters, on_sent)
                    body = b"".join([piece async for piece in exchange.body()])
                    answer = json.loads(body or b"null")
            if status >= 400:
                raise refused(answer)
            return answer

    async def follow(self, verb: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield the events that a verb streams until the master ends them; raises as `call` does."""
        with _translated(self._path):
            async with _Exchange(self._path) as exchange:
                status = await exchange.ask(verb, parameters)
                if status >= 400:
                    raise refused(json.loads(b"".join([piece async for piece in exchange.body()]) or b"null"))
                rest = b""
                async for piece in exchange.body():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: "):
                            yield json.loads(line.removeprefix(b"data: "))


async def _connect(connection: socket.socket, path: Path) -> None:
    """Connect, when there is room: a socket whose backlog is full returns EAGAIN and no event (unix(7))."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            connection.connect(str(path))
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(AGAIN)


class _Exchange:
    """One request and its answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._h11 = h11.Connection(h11.CLIENT)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> _Exchange:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.setblocking(False)
            await _connect(connection, self._path)
            refuse_strangers(self._path, connection)
            self._reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        except BaseException:
            connection.close()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def ask(self, verb: str, parameters: dict[str, Any], on_sent: Callable[[], None] = lambda: None) -> int:
        """Send the request, and return the status of the answer."""
        assert self._writer is not None
        body = json.dumps({key: value for key, value in parameters.items() if value is not None}).encode()
        headers = [("Host", "localhost"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        head = h11.Request(method="POST", target=f"/v1/{verb}", headers=[*headers, ("Connection", "close")])
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._h11.send(event) or b"")
        await self._writer.drain()
        on_sent()
        while not isinstance(event := await self._next(), h11.Response):
            if isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("the master closed the connection")
        return int(event.status_code)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the answer as it arrives."""
        while not isinstance(event := await self._next(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> Any:
        assert self._reader is not None
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(PORTION))
        return event


@contextlib.contextmanager
def _translated(path: Path) -> Any:
    try:
        yield
    except (OSError, h11.ProtocolError, ValueError, RecursionError) as error:
        raise ControlError(f"{path}: {error}") from None
