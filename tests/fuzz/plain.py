"""The least applications: what starves in a worker that serves them is the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

__all__ = ["asgi", "wsgi"]

LARGE = [b"a" * 300_000, b"b"]
PIECES = [b"first", b"second"]
WHOLE = [b"whole"]


def _pieces(path: str) -> list[bytes]:
    return LARGE if path == "/l" else PIECES if path == "/s" else WHOLE


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer in one piece, in two, or with much, and read what came."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return _pieces(environ["PATH_INFO"])


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Callable[..., Awaitable[None]]
) -> None:
    """The same."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    pieces = _pieces(scope["path"])
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1]})
