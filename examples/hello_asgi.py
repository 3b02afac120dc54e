"""A plain ASGI application: `forkserve -b :8000 hello_asgi:app`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Say which process answered; refuse the lifespan, as ASGI 3 allows."""
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    body = f"Hello from process {os.getpid()}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
