"""Answers of each kind that is counted, by either interface: `/200`, `/404?` and so on by status, big ones, streams."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

grown: list[bytearray] = []


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise RuntimeError("wanted")
    if path == "/wait":
        wait()
    if path == "/grow":
        grown.append(bytearray(os.urandom(1) * (96 << 20)))
    body = environ["wsgi.input"].read()
    status = path[1:] if path[1:].isdecimal() else "200"
    start_response(f"{status} Status", [("Content-Type", "text/plain")])
    if path == "/stream":
        return pieces()
    return [b"x" * 100_000 if path == "/big" else body or str(os.getpid()).encode()]


def pieces() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


def wait() -> None:
    """Wait until the file named by FORKSERVE_TEST_FIFO is opened for writing."""
    with open(os.environ["FORKSERVE_TEST_FIFO"], "rb") as fifo:
        fifo.read()


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    path = scope["path"]
    if path == "/raise":
        raise RuntimeError("wanted")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    status = int(path[1:]) if path[1:].isdecimal() else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
    text = b"x" * 100_000 if path == "/big" else body or str(os.getpid()).encode()
    await send({"type": "http.response.body", "body": text})


if os.environ.get("FORKSERVE_TEST_BROKEN") == "import":
    os.kill(os.getpid(), signal.SIGKILL)
