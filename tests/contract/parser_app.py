"""Says which modules the worker has imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def _names() -> bytes:
    return json.dumps(sorted(sys.modules)).encode()


def imported_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_names()]


async def imported_asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": _names()})
