"""The application that every backend serves in the contract suite, once as WSGI and once as ASGI."""

from __future__ import annotations

import asyncio
import json
import os
import select
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

BIG = 3_000_000
PLAIN = ("Content-Type", "text/plain")


def pass_gate() -> None:
    """Say that the request is here, and wait to be let through."""
    enter, leave = map(int, os.environ["GATE"].split(","))
    os.write(enter, b".")
    # CPython calls a handler between bytecodes: a signal just before a wait is heeded after it, so the wait is short
    while not select.select([leave], [], [], 0.5)[0]:
        pass
    os.read(leave, 1)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    status, headers, body = "200 OK", [PLAIN], b"hello"
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    elif path == "/big":
        body = b"x" * BIG
    elif path == "/slow":
        pass_gate()
        body = b"slow"
    elif path == "/environ":
        names = ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "QUERY_STRING", "HTTP_X_REAL_USER", "HTTP_PROXY")
        body = json.dumps({name: environ.get(name) for name in names}).encode()
    elif path == "/injected":
        headers.append(("X-Bad", "a\r\nX-Injected: yes"))
    elif path == "/write":
        start_response(status, [*headers, ("Content-Length", "10")])(b"first ")
        return [b"last"]
    elif path != "/":
        status, body = "404 Not Found", b"no"
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]


Message = dict[str, Any]


async def asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    path, status, body = scope["path"], 200, b"hello"
    if path == "/echo":
        body = await _body(receive)
    elif path == "/big":
        body = b"x" * BIG
    elif path == "/slow":
        await asyncio.get_running_loop().run_in_executor(None, pass_gate)
        body = b"slow"
    elif path == "/environ":
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = json.dumps(
            {
                "SERVER_NAME": scope["server"][0],
                "SERVER_PORT": str(scope["server"][1]),
                "REMOTE_ADDR": scope["client"][0],
                "QUERY_STRING": scope["query_string"].decode(),
                "HTTP_X_REAL_USER": fields.get("x_real_user"),
                "HTTP_PROXY": None,
            }
        ).encode()
    elif path != "/":
        status, body = 404, b"no"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
