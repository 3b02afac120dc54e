"""The frameworks that people use, unchanged."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.serving import PATIENCE, serving

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("name", ["starlette", "fastapi", "quart", "litestar"])
def test_a_framework_is_served_unchanged(name: str) -> None:
    with serving(["--factory", "--interface", "asgi", f"asgi_frameworks:{name}"], folder=FOLDER) as worker:
        response, body = worker.request("GET", "/hello")
        assert (response.status, body) == (200, b"hello")
        assert worker.request("GET", "/stream")[1] == b"one two"
        assert worker.request("GET", "/nowhere")[0].status == 404
        host, port = worker.address
        with connect(f"ws://{host}:{port}/ws", open_timeout=PATIENCE) as ws:
            ws.send("grüße")
            assert ws.recv(PATIENCE) == "grüße"
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert b"ERROR" not in worker.log, worker.log.decode()
    assert b"by asgi at" in worker.log


@pytest.mark.parametrize("name", ["starlette", "starlette_middleware", "sse", "fastapi", "quart", "litestar", "django"])
def test_a_stream_whose_client_has_gone_is_cleaned_up_at_once(name: str) -> None:
    """The worker is asked to leave only afterwards, with more time than this test has patience."""
    if name == "sse" and importlib.util.find_spec("sse_starlette") is None:
        pytest.skip("sse-starlette is not installed")
    with serving(
        ["--factory", "--interface", "asgi", "--graceful-timeout", "60", f"asgi_gone:{name}"], folder=FOLDER
    ) as worker:
        for reset in (False, True, False):
            with socket.create_connection(worker.address, PATIENCE) as sock:
                sock.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
                data = b""
                while b"begun" not in data:
                    part = sock.recv(4096)
                    assert part, data
                    data += part
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            worker.await_line("cleaned up")
            worker.log = worker.log.replace(b"cleaned up", b"", 1)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert b"ERROR" not in worker.log, worker.log.decode()
    assert b"Traceback" not in worker.log, worker.log.decode()
