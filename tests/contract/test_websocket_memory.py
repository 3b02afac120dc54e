"""What clients of WebSockets together can make a worker keep, while they are there and when they have gone."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.test_engine import Client
from tests.support.serving import Served, serving

SOCKETS = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/deaf":
        await asyncio.sleep(60)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(message["bytes"]))})
"""
HANDSHAKE = (
    "GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LAST = b"\x80\x80\0\0\0\0"
TRY_AGAIN = (1013).to_bytes(2, "big")
PING, PONG = b"\x89\x80\0\0\0\0", b"\x8a\0"


def frame(first: int, data: bytes) -> bytes:
    """Return a frame of a client, under a mask of zeros."""
    return bytes([first, 0xFF]) + len(data).to_bytes(8, "big") + bytes(4) + data


@contextlib.contextmanager
def sockets(folder: Path, *words: str) -> Iterator[tuple[Served, Callable[[str], Client]]]:
    """Serve the application above; what is yielded besides opens a WebSocket of it."""
    (folder / "socket_app.py").write_text(SOCKETS)
    words = ("--backend", "asgi", "--lifespan", "off", *words, "socket_app:app")
    with serving(words, folder=folder) as worker, contextlib.ExitStack() as stack:

        def opened(path: str) -> Client:
            client = stack.enter_context(Client(worker))
            client.send((HANDSHAKE % path).encode())
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            return client

        yield worker, opened


def test_unfinished_messages_of_websockets_are_bounded_together(tmp_path: Path) -> None:
    with sockets(tmp_path, "--request-memory", "1M") as (worker, opened):
        small = opened("/echo")
        small.send(frame(0x02, b"s" * 100_000))
        clients = [opened("/echo") for _ in range(12)]
        for client in clients:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.send(frame(0x02, b"x" * 200_000))
        worker.await_line("--request-memory")
        answers = [last_of(client) for client in clients]
        assert set(answers) == {b"200000", TRY_AGAIN}
        assert last_of(small) == b"100000"


def last_of(client: Client) -> bytes:
    """End a message; return what the answer says, which is its size or the code of a close."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.send(LAST)
    head = client.sock.recv(2, socket.MSG_WAITALL)
    said = client.sock.recv(head[1], socket.MSG_WAITALL)
    return said if head[0] == 0x81 else said[:2]


@pytest.mark.parametrize("first", [0x02, 0x82], ids=["fragment", "message"])
def test_what_clients_that_have_gone_leave_to_an_application_that_does_not_take_it_is_bounded(
    first: int, tmp_path: Path
) -> None:
    with sockets(tmp_path, "--request-memory", "4M") as (worker, opened):
        sizes = []
        for _ in range(80):
            client = opened("/deaf")
            client.send(frame(first, b"x" * 900_000) + PING)
            assert client.sock.recv(2, socket.MSG_WAITALL) == PONG
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
            sizes.append(resident(worker.process.pid))
        assert max(sizes) - sizes[0] < 45_000_000


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has (proc(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
