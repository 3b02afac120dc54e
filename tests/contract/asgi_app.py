"""An ASGI application with a path for each thing that a test wants to see; `seen` remembers how calls ended."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import sniffio

from forkserve.serving.native import hot

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Message, Receive, Send], Awaitable[None]]

seen: list[str] = []
changed = asyncio.Event()
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="fresh")
BLOCK = b"x" * 65_536


def note(text: str) -> None:
    seen.append(text)
    changed.set()


async def start(send: Send, status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers), **more})


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    await start(send, status, (b"content-type", b"text/plain"))
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body


async def hello(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, b"hello")


async def once_through(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": iter([(b"x-a", b"b")])})
    await send({"type": "http.response.body", "body": b"x"})


async def interrupts(scope: Message, receive: Receive, send: Send) -> None:
    raise KeyboardInterrupt


LARGE = b"l" * 8_000_000


async def large(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, 200, (b"content-length", b"%d" % len(LARGE)))
    await send({"type": "http.response.body", "body": LARGE})


async def show(scope: Message, receive: Receive, send: Send) -> None:
    def plain(value: Any) -> Any:
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    await answer(send, json.dumps(scope, default=plain).encode())


async def spoil(scope: Message, receive: Receive, send: Send) -> None:
    """Write to everything that a scope holds: the next request must not see it."""
    scope["headers"].clear()
    scope["extensions"].clear()
    scope["state"]["spoilt"] = True
    scope["path"] = "/spoilt"
    await answer(send, b"")


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, await body_of(receive))


async def stream_back(scope: Message, receive: Receive, send: Send) -> None:
    """Send each piece back as it comes."""
    await start(send)
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body"})


async def ignore_body(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, b"ignored")


async def stalled(scope: Message, receive: Receive, send: Send) -> None:
    """Take the body only once told to, by a request for /go."""
    await go.wait()
    size = 0
    while True:
        message = await receive()
        size += len(message["body"])
        if not message["more_body"]:
            break
    await answer(send, str(size).encode())


go = asyncio.Event()


async def let_go(scope: Message, receive: Receive, send: Send) -> None:
    go.set()
    await answer(send, b"")


async def endless(scope: Message, receive: Receive, send: Send) -> None:
    """Send until the client has gone."""
    await start(send)
    count = 0
    try:
        while True:
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
            count += 1
            note(f"sent {count}")
    except OSError:
        note("endless: OSError")


async def until_disconnect(scope: Message, receive: Receive, send: Send) -> None:
    await body_of(receive)
    note("waiting")
    message = await receive()
    note(f"until_disconnect: {message['type']}")


async def after_reply(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, b"early")
    message = await receive()
    try:
        await send({"type": "http.response.body", "body": b"more"})
    except RuntimeError as error:
        note(f"after_reply: {message['type']} {error}")


async def background(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, b"done")
    await go.wait()
    note("background: done")


async def report(scope: Message, receive: Receive, send: Send) -> None:
    """Answer once what the query names was noted."""
    wanted = scope["query_string"].decode().replace("%20", " ")
    while not any(wanted in text for text in seen):
        changed.clear()
        await changed.wait()
    await answer(send, seen[-1].encode())


async def promised(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, 200, (b"content-length", b"5"))
    await send({"type": "http.response.body", "body": b"hello"})


async def sent_by_tasks(scope: Message, receive: Receive, send: Send) -> None:
    """Some frameworks hand what `send` returns to others."""
    await asyncio.create_task(send({"type": "http.response.start", "status": 200, "headers": []}))  # type: ignore[arg-type]
    await asyncio.gather(asyncio.wait_for(send({"type": "http.response.body", "body": b"by tasks"}), 5))


async def parts(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    for part in (b"one ", b"", b"two ", bytearray(b"three")):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def trailers(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, trailers=True)
    await send({"type": "http.response.body", "body": b"body"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-end", b"2"), (b"content-length", b"9")]})


async def hints(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
    await answer(send, b"hinted")


HOARD: list[int] = []
KEPT = open(__file__, "rb")  # noqa: SIM115 - for the life of the process


async def hoard(scope: Message, receive: Receive, send: Send) -> None:
    """Take all descriptors that there are."""
    try:
        while True:
            HOARD.append(os.dup(0))
    except OSError:
        await promised(scope, receive, send)


async def let_go_of_hoard(scope: Message, receive: Receive, send: Send) -> None:
    while HOARD:
        os.close(HOARD.pop())
    await promised(scope, receive, send)


async def kept_file(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    await send({"type": "http.response.zerocopysend", "file": KEPT.fileno(), "offset": 0})


async def file(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, 200, (b"content-type", b"text/x-python"))
    await send({"type": "http.response.pathsend", "path": __file__})


async def descriptor(scope: Message, receive: Receive, send: Send) -> None:
    with tempfile.TemporaryFile() as made:
        made.write(b"0123456789")
        made.flush()
        await start(send)
        await send({"type": "http.response.body", "body": b"<", "more_body": True})
        zero = {"type": "http.response.zerocopysend", "file": made.fileno()}
        await send({**zero, "offset": 2, "count": 3, "more_body": True})
        await send({**zero, "offset": 7, "count": 100})


async def long(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, 200, (b"content-length", b"3"))
    await send({"type": "http.response.body", "body": b"12345"})


async def short(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, 200, (b"content-length", b"9"))
    await send({"type": "http.response.body", "body": b"12345"})


async def empty(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, int(scope["query_string"]))
    await send({"type": "http.response.body", "body": b"must not be seen"})


async def raises(scope: Message, receive: Receive, send: Send) -> None:
    raise KeyError("the secret")


async def raises_late(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    raise KeyError("the secret")


async def returns_early(scope: Message, receive: Receive, send: Send) -> None:
    pass


async def wrong(scope: Message, receive: Receive, send: Send) -> None:
    """Send what may not be sent, and report what came of it."""
    messages: list[Message] = [
        {"type": "http.response.body", "body": b""},
        {"type": "nonsense"},
        {"type": "http.response.start", "headers": []},
        {"type": "http.response.start", "status": "200"},
        {"type": "http.response.start", "status": 200, "headers": [("a", "b")]},
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]},
        {"type": "http.response.start", "status": 101},
    ]
    faults = []
    for message in messages:
        try:
            await send(message)
        except (RuntimeError, ValueError) as error:
            faults.append(str(error))
    await start(send)
    try:
        await send({"type": "http.response.body", "body": "text"})
    except ValueError as error:
        faults.append(str(error))
    await send({"type": "http.response.body", "body": json.dumps(faults).encode()})


async def tasks(scope: Message, receive: Receive, send: Send) -> None:
    """Use what needs a current task, before and after the first real wait."""
    task = asyncio.current_task()
    assert task is not None
    assert task in asyncio.all_tasks()
    assert sniffio.current_async_library() == "asyncio"
    before = variable.get()
    variable.set("mine")
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    with anyio.move_on_after(0.01) as scope_:
        await anyio.sleep(60)
    assert scope_.cancelled_caught
    results: list[str] = []

    async def child() -> None:
        await asyncio.sleep(0)
        results.append(variable.get())

    async with asyncio.TaskGroup() as group:
        group.create_task(child())
    async with anyio.create_task_group() as second:
        second.start_soon(child)
    assert asyncio.current_task() is task
    await answer(send, f"{before} {' '.join(results)} {variable.get()}".encode())


async def cancel_scope_first(scope: Message, receive: Receive, send: Send) -> None:
    with anyio.CancelScope() as inner:
        inner.cancel()
        await anyio.sleep(60)
    await answer(send, str(inner.cancelled_caught).encode())


async def slow(scope: Message, receive: Receive, send: Send) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note("slow: cancelled")
        raise


async def blocks(scope: Message, receive: Receive, send: Send) -> None:
    """Wait for a byte that never comes, the blocking way."""
    reader, _ = os.pipe()
    os.read(reader, 1)


async def memory(scope: Message, receive: Receive, send: Send) -> None:
    with open("/proc/self/statm", "rb") as statm:
        pages = int(statm.read().split()[1])
    await answer(send, str(pages * os.sysconf("SC_PAGE_SIZE")).encode())


async def websocket(scope: Message, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    path = scope["path"]
    if path == "/ws/forbidden":
        await send({"type": "websocket.close"})
    elif path == "/ws/denied":
        await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-why", b"tea")]})
        await send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"coffee"})
    elif path == "/ws/raises":
        raise KeyError("the secret")
    elif path == "/ws/deaf":
        await send({"type": "websocket.accept"})
        await asyncio.sleep(60)
    else:
        await chat(scope, receive, send)


async def chat(scope: Message, receive: Receive, send: Send) -> None:
    offered = scope["subprotocols"]
    await send(
        {
            "type": "websocket.accept",
            "subprotocol": offered[-1] if offered else None,
            "headers": [(b"x-accepted", b"yes")],
        }
    )
    if scope["path"] == "/ws/scope":
        await send({"type": "websocket.send", "text": json.dumps(scope, default=lambda value: value.decode("latin-1"))})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            note(f"websocket: {message['code']} {message['reason']}")
            return
        text = message.get("text")
        if text == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "asked"})
        elif text == "raise":
            raise KeyError("the secret")
        elif text == "return":
            return
        elif text == "flood":
            await flood(send)
        else:
            await send({"type": "websocket.send", "text": text, "bytes": message.get("bytes")})


async def flood(send: Send) -> None:
    count = 0
    try:
        while True:
            await send({"type": "websocket.send", "bytes": BLOCK})
            count += 1
            note(f"flooded {count}")
    except OSError:
        note("flood: OSError")
        raise


async def lifespan(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    if os.environ.get("FAIL_STARTUP"):
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    scope["state"]["greeting"] = "from the lifespan"
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("lifespan shutdown", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def taken(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, json.dumps({} if hot is None else hot.taken()).encode())


TOLD: list[str] = []


async def waits_beside(scope: Message, receive: Receive, send: Send) -> None:
    """Answer while another task waits for what the client does; `told` says what that task was told."""

    async def wait() -> None:
        try:
            TOLD.append((await asyncio.wait_for(receive(), 2))["type"])
        except TimeoutError:
            TOLD.append("nothing")

    await receive()
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await answer(send, b"answered")
    await waiting


async def told(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, json.dumps(TOLD).encode())


HANDLERS: dict[str, Handler] = {
    each.__name__: each
    for each in (
        hello, show, spoil, echo, stream_back, ignore_body, stalled, let_go, endless, until_disconnect, after_reply,
        background, report, parts, trailers, hints, file, descriptor, long, short, empty, raises, raises_late,
        returns_early, wrong, tasks, cancel_scope_first, slow, blocks, memory, large, promised, sent_by_tasks,
        once_through, interrupts, hoard, let_go_of_hoard, kept_file, taken, waits_beside, told,
    )
}  # fmt: skip


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        await HANDLERS.get(scope["path"].strip("/").partition("/")[0], show)(scope, receive, send)
