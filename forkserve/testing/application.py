"""The applications that the suites serve: the same paths as WSGI and as ASGI, and one under `wsgiref.validate`.

Any other path answers with the request as the application saw it, as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

__all__ = ["BIG", "asgi", "validated", "wsgi"]

BIG = 3_000_000
TEXT = ("Content-Type", "text/plain")
Environ = dict[str, Any]
Message = dict[str, Any]
Start = Callable[..., Any]
counted = {"whole": 0, "gone": 0, "closed": 0}
"""Counts of bodies read to their end, of clients that left, and of results that were closed."""
state: dict[str, Any] = {}


def pass_gate() -> None:
    """Announce the request, and wait until the suite releases it."""
    enter, leave = map(int, os.environ["FORKSERVE_TESTING_GATE"].split(","))
    os.write(enter, b".")
    os.read(leave, 1)


def _digest(body: bytes) -> bytes:
    counted["whole"] += 1
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


def _plain(path: str) -> tuple[int, bytes] | None:
    """Answer the paths that are the same in both interfaces and need no body."""
    match path:
        case "/big":
            return 200, b"x" * BIG
        case "/counted":
            return 200, json.dumps(counted).encode()
        case "/empty":
            return 204, b""
        case "/unmodified":
            return 304, b""
        case "/raise":
            raise ValueError("secret of the house")
    return None


def _facts(method: str, path: str, query: str, fields: dict[str, str], body: bytes) -> bytes:
    facts = {"method": method, "path": path, "query": query, "fields": fields, "body": body.decode("latin-1")}
    return json.dumps(facts).encode()


def wsgi(environ: Environ, start: Start) -> Iterable[bytes]:
    """Serve the paths over WSGI."""
    path = environ["PATH_INFO"]
    plain = _plain(path)
    if path == "/stream":
        start("200 OK", [TEXT])
        return (b"%d," % number for number in range(5))
    if path == "/wait":
        pass_gate()
        plain = 200, b"waited"
    if plain is None:
        body = _input(environ)
        fields = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name[:5] == "HTTP_"}
        text = _facts(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), fields, body)
        plain = 200, _digest(body) if path == "/digest" else text
    status, body = plain
    length = [("Content-Length", str(len(body)))] if status == 200 else []
    start(f"{status} Whatever", [*([TEXT] if status == 200 else []), *length])
    return [body] if body else []


def _input(environ: Environ) -> bytes:
    """Read the whole body; only its declared length where the server does not promise the end of its input."""
    source = environ["wsgi.input"]
    terminated = environ.get("wsgi.input_terminated")
    return bytes(source.read() if terminated else source.read(int(environ.get("CONTENT_LENGTH") or 0)))


class Closing:
    """A result that counts its close()."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """Count the call."""
        counted["closed"] += 1


def _by_the_letter(environ: Environ, start: Start) -> Iterable[bytes]:
    path, source = environ["PATH_INFO"], environ["wsgi.input"]
    pieces: Iterable[bytes] = [b"plain"]
    status = "200 OK"
    match path:
        case "/read":
            pieces = [source.read(3), source.read(10_000), source.read(5)]
        case "/readline":
            pieces = [source.readline(), b"|", source.readline()]
        case "/lines":
            pieces = [b"|".join(source)]
        case "/stream":
            pieces = (b"%d," % number for number in range(5))
        case "/counted":
            pieces = [json.dumps(counted).encode()]
        case "/write":
            start(status, [TEXT])(b"first ")
            return [b"last"]
        case "/retracted":
            start(status, [TEXT])
            try:
                raise ValueError("changed its mind")
            except ValueError:
                start("503 Service Unavailable", [TEXT], sys.exc_info())
            return [b"sorry"]
        case "/none":
            pieces = []
    start(status, [TEXT])
    return Closing(pieces)


validated = validator(_by_the_letter)
"""Raises AssertionError, which becomes a 500, at any violation of PEP 3333 by the server."""


async def asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Serve the paths over ASGI 3, and check strictly what the server sends."""
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        _judge(scope)
        await _http(scope, receive, send)


async def _lifespan(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            scope.get("state", {})["begun"] = "yes"
            state["lifespan"] = "begun"
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _websocket(receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"echo {message['text']}"})


def _judge(scope: Message) -> None:
    """Raise AssertionError for a scope that violates the specification."""
    assert scope["asgi"]["version"].startswith("3"), scope["asgi"]
    assert scope["http_version"] in ("1.0", "1.1"), scope["http_version"]
    assert scope.get("scheme", "http") == "http", scope["scheme"]
    assert isinstance(scope["path"], str) and isinstance(scope["query_string"], bytes)
    for name, value in scope["headers"]:
        assert isinstance(name, bytes) and isinstance(value, bytes) and name == name.lower(), (name, value)


async def _http(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
    path, status = scope["path"], 200
    plain = _plain(path)
    if path == "/wait":
        await asyncio.get_running_loop().run_in_executor(None, pass_gate)
        plain = 200, b"waited"
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for number in range(5):
            await send({"type": "http.response.body", "body": b"%d," % number, "more_body": True})
        await send({"type": "http.response.body"})
        return
    elif path == "/gone":
        await _await_disconnect(receive)
        return
    elif path == "/lifespan":
        plain = 200, f"{state.get('lifespan')} {scope.get('state', {}).get('begun')}".encode()
    if plain is None:
        whole = await _body(receive)
        if whole is None:
            return
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        text = _facts(scope["method"], path, scope["query_string"].decode("latin-1"), fields, whole)
        plain = 200, _digest(whole) if path == "/digest" else text
    status, body = plain
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())] if status == 200 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _await_disconnect(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    counted["gone"] += 1


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes | None:
    """Return the whole body; None if the client leaves first."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body
