"""The application that fuzzed workers serve, for both interfaces: it answers what it was asked, and never fails.

The answer is JSON of everything that the client decides, so two workers can be compared; what the kernel decides (ports
and the like) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

__all__ = ["asgi", "wsgi"]

Message = dict[str, Any]
_PORTS = ("REMOTE_PORT", "SERVER_PORT", "client", "server")
LARGE = 300_000
"""Bytes of an answer that no socket takes at once."""


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _answer(facts: Message, body: bytes) -> bytes:
    known = {name: value for name, value in facts.items() if name not in _PORTS}
    return json.dumps({"facts": known, "body": body.decode("latin-1")}, default=_text, sort_keys=True).encode()


def wsgi(environ: Message, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer in one piece, in pieces, or with much, as the path begins."""
    path = environ["PATH_INFO"]
    facts = {name: value for name, value in environ.items() if isinstance(value, str)}
    body = b"" if path.startswith("/u") else environ["wsgi.input"].read()
    answer = _answer(facts, body)
    headers = [("Content-Type", "application/json")]
    if path.startswith("/l"):
        start_response("200 OK", headers)
        return [answer, b" " * LARGE]
    if path.startswith("/s"):
        start_response("200 OK", headers)
        return (answer[at : at + 50] for at in range(0, len(answer), 50))
    start_response("200 OK", [*headers, ("Content-Length", str(len(answer)))] if path.startswith("/k") else headers)
    return [answer]


async def asgi(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]) -> None:
    """The same; a WebSocket gets back what it sends."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _talk(receive, send)
    else:
        await _serve(scope, receive, send)


async def _live(receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]) -> None:
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})


async def _talk(receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    except OSError:
        """The client has gone."""


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def _serve(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]
) -> None:
    path = scope["path"]
    body = b"" if path.startswith("/u") else await _body(receive)
    if body is None:
        return
    answer = _answer({**scope, "state": None, "headers": [[_text(a), _text(b)] for a, b in scope["headers"]]}, body)
    headers = [(b"content-type", b"application/json")]
    if path.startswith("/k"):
        headers.append((b"content-length", str(len(answer)).encode()))
    pieces = [answer]
    if path.startswith("/l"):
        pieces = [answer, b" " * LARGE]
    elif path.startswith("/s"):
        pieces = [answer[at : at + 50] for at in range(0, len(answer), 50)]
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": pieces[-1]})
    except OSError:
        """The client has gone."""
