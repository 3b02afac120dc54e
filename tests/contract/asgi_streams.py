"""An ASGI application with a path for each way to be slow, or deaf; it says on stderr what became of a call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Message, Receive, Send], Awaitable[None]]

going = asyncio.Event()
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"yes")]}
BODY = "http.response.body"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def hello(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": BODY, "body": b"hello"})


async def go(scope: Message, receive: Receive, send: Send) -> None:
    going.set()
    going.clear()
    await hello(scope, receive, send)


async def thinks(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await going.wait()
    await send({"type": BODY, "body": b"thought"})


async def thinks_twice(scope: Message, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.001)
    await thinks(scope, receive, send)


async def thinks_in_a_task(scope: Message, receive: Receive, send: Send) -> None:
    await asyncio.create_task(thinks(scope, receive, send))  # type: ignore[arg-type]


async def thinks_of_a_length(scope: Message, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0)
    await send({**START, "headers": [(b"content-length", b"7")]})
    await going.wait()
    await send({"type": BODY, "body": b"thought"})


async def thinks_long(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await asyncio.sleep(1)
    await send({"type": BODY, "body": b"thought"})


async def blocks(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    reader, _ = os.pipe()
    os.read(reader, 1)


async def raises(scope: Message, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0)
    await send(START)
    raise KeyError("the secret")


async def listens_to_nobody(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": BODY, "body": b"begun", "more_body": True})
    try:
        await asyncio.sleep(60)
    finally:
        say("cleaned up")


async def receives_for_ever(scope: Message, receive: Receive, send: Send) -> None:
    say("begun")
    while True:
        await receive()


async def sends_for_ever(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    say("begun")
    while True:
        with contextlib.suppress(OSError):
            await send({"type": BODY, "body": b"x" * 1000, "more_body": True})


async def sends_nothing_for_ever(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    say("begun")
    while True:
        await send({"type": BODY, "body": b"", "more_body": True})


async def path(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})


async def steps(scope: Message, receive: Receive, send: Send) -> None:
    """Send a file in parts, without saying where: each goes on where the last has ended."""
    zero = {"type": "http.response.zerocopysend"}
    await send(START)
    with open(scope["query_string"].decode(), "rb") as file:
        await send({**zero, "file": file.fileno(), "count": 2, "more_body": True})
        await send({**zero, "file": file.fileno(), "offset": 8, "count": 1, "more_body": True})
        await send({**zero, "file": file.fileno(), "count": 2, "more_body": True})
    with open(scope["query_string"].decode(), "rb") as file:
        assert file.read(4) == b"0123"
        await send({**zero, "file": file, "count": 2, "more_body": True})
        assert file.read(2) == b"67"
        await send({**zero, "file": file, "more_body": True})
    with open("/proc/version", "rb", buffering=0) as file:
        await send({**zero, "file": file, "count": 3, "more_body": True})
        await send({**zero, "file": file, "count": 3})


async def pipe(scope: Message, receive: Receive, send: Send) -> None:
    reader, writer = os.pipe()
    asyncio.get_running_loop().call_later(0.05, os.write, writer, b"by pipe")
    try:
        await send(START)
        await send({"type": "http.response.zerocopysend", "file": reader, "count": 7})
    finally:
        os.close(reader)
        os.close(writer)


async def websocket(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] == "/denies":
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": [(b"x-app", b"yes")]})
        await going.wait()
        await send({"type": "websocket.http.response.body", "body": b"thought"})
        return
    await send({"type": "websocket.accept"})
    if scope["path"] == "/receives_for_ever":
        await receives_for_ever(scope, receive, send)
    await send({"type": "websocket.close"})
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except Exception as error:
        say(f"after close: {type(error) is not OSError and isinstance(error, OSError)}")
        raise


async def lifespan(scope: Message, receive: Receive, send: Send) -> None:
    fault = os.environ.get("FAULT", "")
    await receive()
    if fault == "cancelled":
        raise asyncio.CancelledError
    if fault == "raises":
        raise KeyError("the secret")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if fault == "slow":
        try:
            await asyncio.sleep(60)
        finally:
            say("cleaned up")
    await send({"type": "lifespan.shutdown.complete"})


HANDLERS: dict[str, Handler] = {
    each.__name__: each
    for each in (
        hello, go, thinks, thinks_twice, thinks_in_a_task, thinks_of_a_length, thinks_long, blocks, raises,
        listens_to_nobody, receives_for_ever, sends_for_ever, sends_nothing_for_ever, path, steps, pipe,
    )
}  # fmt: skip


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        await HANDLERS[scope["path"].strip("/")](scope, receive, send)
