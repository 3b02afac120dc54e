"""A response that is cut leaves the same line in the access log on every backend: what the client has had of it."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE, Gate, Served, serving

APP = """
import asyncio, os, select, threading

def gate():
    enter, leave = map(int, os.environ["GATE"].split(","))
    os.write(enter, b".")
    os.read(leave, 1)

def app(environ, start):
    path = environ["PATH_INFO"]
    if path == "/before":
        gate()
    if path == "/fails":
        raise KeyError
    start("201 Created", [])
    return [b"late"] if path == "/before" else blocks(path)

def blocks(path):
    yield b"x" * 10
    if path == "/raises":
        raise KeyError
    while path == "/gone":
        yield b"x" * 1000
    while path == "/late":
        select.select([], [], [], 0.02)

async def asgi(scope, receive, send):
    path = scope["path"]
    if scope["type"] == "websocket":
        await receive()
        await asyncio.to_thread(gate)
        await receive()
        return
    if path == "/before":
        await asyncio.to_thread(gate)
    if path == "/fails":
        raise KeyError
    await send({"type": "http.response.start", "status": 201})
    await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
    if path == "/raises":
        raise KeyError
    while path == "/gone":
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.sleep(0)
    while path == "/late":
        await asyncio.sleep(60)
"""
WEBSOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def reset(client: socket.socket) -> None:
    """Go without a word (SO_LINGER of 0 s: a reset)."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def leave(worker: Served, path: str, gate: Gate, fields: str = "") -> None:
    """Ask, and go once the answer has begun, or while the application is at the gate."""
    with socket.create_connection(worker.address, PATIENCE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        if path == "/gone":
            assert client.recv(100).startswith(b"HTTP/1.1 201")
        else:
            gate.entered()
        reset(client)
    if path != "/gone":
        gate.open()


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent", "asgi"])
def test_what_is_cut_leaves_a_line_with_what_was_sent_of_it(backend: str, tmp_path: Path) -> None:
    (tmp_path / "cut_app.py").write_text(APP)
    log = tmp_path / "log"
    words = ["-k", backend, "--timeout", "1.5", "--access-log", str(log), "--access-log-format", "%(U)s %(s)s %(B)s"]
    words.append("cut_app:asgi" if backend == "asgi" else "cut_app:app")
    with contextlib.closing(Gate()) as gate, serving(words, folder=tmp_path, gate=gate) as worker:
        for path in ("/fails", "/raises"):
            worker.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        leave(worker, "/before", gate)
        leave(worker, "/gone", gate)
        if backend == "asgi":
            leave(worker, "/socket", gate, WEBSOCKET)
        else:  # where an answer has begun, ASGI sets it no time limit
            worker.raw(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    lines = {path: (int(status), int(size)) for path, status, size in map(str.split, log.read_text().splitlines())}
    assert lines.pop("/gone", (0, 0)) >= (201, 10)
    assert lines == {
        "/fails": (500, 0),
        "/raises": (201, 10),
        "/before": (499, 0),
        **({"/socket": (499, 0)} if backend == "asgi" else {"/late": (201, 10)}),
    }


def test_an_application_that_gives_no_more_at_the_end_of_the_grace_leaves_a_line(tmp_path: Path) -> None:
    (tmp_path / "cut_app.py").write_text(APP)
    log = tmp_path / "log"
    words = ["-k", "asgi", "--graceful-timeout", "0.4", "--access-log", str(log), "--access-log-format", "%(s)s %(B)s"]
    with serving([*words, "cut_app:asgi"], folder=tmp_path) as worker:
        with socket.create_connection(worker.address, PATIENCE) as client:
            client.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100)
            worker.signal(signal.SIGTERM)
            while client.recv(65536):
                pass
        assert worker.ended() == 75
    assert log.read_text() == "201 10\n"
