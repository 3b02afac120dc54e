"""The applications without a framework, each as WSGI and as ASGI.

They do as little as possible, so that what is timed is the server. Every answer has a Content-Length.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

HELLO = b"Hello, World!"
BIG = bytes(range(256)) * 4096
_TEXT = "text/plain"


def _answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", _TEXT), ("Content-Length", str(len(body)))])
    return [body]


def hello_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """13 bytes, at once."""
    start_response("200 OK", [("Content-Type", _TEXT), ("Content-Length", "13")])
    return [HELLO]


def echo_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Give the body back."""
    return _answer(start_response, environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def big_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """One MiB."""
    return _answer(start_response, BIG)


def pid_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say which process answers."""
    return _answer(start_response, b"%d" % os.getpid())


def _waiting_wsgi(seconds: float) -> WSGIApplication:
    def wait_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        time.sleep(seconds)  # noqa: TID251 - stands for the database call of a user's application; gevent patches it
        return _answer(start_response, HELLO)

    return wait_wsgi


wait10_wsgi = _waiting_wsgi(0.010)
wait100_wsgi = _waiting_wsgi(0.100)


async def lifespan(receive: Receive, send: Send) -> None:
    """Agree to start and to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _asgi(handle: Callable[[Receive], Awaitable[bytes]]) -> Asgi:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        else:
            await _send(send, await handle(receive))

    return application


async def hello_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """13 bytes, at once."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def _big(receive: Receive) -> bytes:
    return BIG


async def _pid(receive: Receive) -> bytes:
    return b"%d" % os.getpid()


async def _sleep(seconds: float) -> None:
    # Here, so that a WSGI server's worker is not weighed with an event loop in it.
    from asyncio import sleep

    await sleep(seconds)


async def _wait10(receive: Receive) -> bytes:
    await _sleep(0.010)
    return HELLO


async def _wait100(receive: Receive) -> bytes:
    await _sleep(0.100)
    return HELLO


echo_asgi = _asgi(_read)
big_asgi = _asgi(_big)
pid_asgi = _asgi(_pid)
wait10_asgi = _asgi(_wait10)
wait100_asgi = _asgi(_wait100)


async def socket_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo every WebSocket message; a plain request gets the greeting."""
    if scope["type"] != "websocket":
        await hello_asgi(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def stream_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Send an event four times a second for ten seconds; echo WebSockets, and greet who asks for / only."""
    if scope["type"] != "http" or scope["path"] == "/":
        await socket_asgi(scope, receive, send)
        return
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(40):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await _sleep(0.25)
    await send({"type": "http.response.body", "body": b""})
