"""The frameworks that people use, unchanged."""

from __future__ import annotations

import signal
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
