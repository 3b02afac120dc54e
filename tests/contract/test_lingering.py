"""What a client sends after the request that closes its connection does the answer no harm (RFC 9112 section 9.6)."""

from __future__ import annotations

import select
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE, Served, serving
from tests.support.tls import make_certificate

APPS = """
def wsgi(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
CLOSING = [b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET\r\n\r\n"]
TRIES = 3
"""A worker waits for two seconds, and a machine may pause for longer than that."""
MORE = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@contextmanager
def worker_of(backend: str, folder: Path, *words: str, pure: bool) -> Iterator[Served]:
    (folder / "ending_app.py").write_text(APPS)
    target = "ending_app:asgi" if backend == "asgi" else "ending_app:wsgi"
    environ = {"FORKSERVE_PURE": "1" if pure else ""}
    with serving(["--backend", backend, *words, target], folder=folder, environ=environ) as worker:
        yield worker
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.log.decode()
        assert b"Traceback" not in worker.log, worker.log.decode()


def is_read_to_its_end(client: socket.socket, request: bytes) -> bool:
    """Send more, byte by byte, after the whole answer and its end; True if that is taken and not reset."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(request)
    answer = b""
    while part := client.recv(65536):
        answer += part
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert answer.count(b"HTTP/1.1") == 1
    poller = select.poll()
    poller.register(client, 0)
    try:
        for at in range(len(MORE)):
            client.send(MORE[at : at + 1])
        # Only errors are waited for: a reset comes a moment after what it answers.
        return not poller.poll(50)
    except OSError:
        return False


@pytest.mark.parametrize(
    ("backend", "pure"),
    [("sync", False), ("threads", False), ("gevent", False), ("asgi", False), ("sync", True), ("asgi", True)],
)
def test_what_comes_behind_the_last_request_is_read_and_not_reset(backend: str, pure: bool, tmp_path: Path) -> None:
    with worker_of(backend, tmp_path, pure=pure) as worker:

        def is_read(request: bytes) -> bool:
            with socket.create_connection(worker.address, PATIENCE) as client:
                return is_read_to_its_end(client, request)

        for request in CLOSING:
            assert any(is_read(request) for _ in range(TRIES)), request


@pytest.mark.parametrize("backend", ["threads", "asgi"])
def test_the_same_under_tls(backend: str, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    with worker_of(backend, tmp_path, "--certfile", cert, "--keyfile", key, pure=False) as worker:

        def is_read() -> bool:
            with (
                socket.create_connection(worker.address, PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
            ):
                return is_read_to_its_end(client, CLOSING[0])

        assert any(is_read() for _ in range(TRIES))
