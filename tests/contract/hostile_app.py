"""Applications that run code where the server looks at what they gave it: in hashes, comparisons, finalisers."""

from __future__ import annotations

import gc
import http.client
import select
import threading
from collections.abc import Awaitable, Callable, Iterable
from queue import SimpleQueue
from typing import Any

Environ = dict[str, Any]
Start = Callable[..., Any]
Message = dict[Any, Any]
TEXT = [("Content-Type", "text/plain"), ("X-Kind", "hostile")]
ENOUGH = 300
"""Kinds of responses after which the server has forgotten all it remembered of them."""


def same(environ: Environ, start: Start) -> Iterable[bytes]:
    """What is remembered."""
    start("200 OK", list(TEXT))
    return [b"same"]


def kind(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-Kind", environ["QUERY_STRING"])])
    return [b"kind"]


class Name(str):
    """A name that empties the list it stands in when it is looked at, and has the server forget when it goes."""

    port = ""
    headers: list[Any]

    def __hash__(self) -> int:
        self.headers.clear()
        return str.__hash__(self)

    def __del__(self) -> None:
        if self.port:
            make_it_forget(self.port)


def make_it_forget(port: str) -> None:
    """Ask for more kinds of responses than are remembered, each often enough to be."""
    conn = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    for number in range(ENOUGH):
        for _ in range(2):
            conn.request("GET", f"/kind?{number}")
            conn.getresponse().read()
    conn.close()


def forgetting(environ: Environ, start: Start) -> Iterable[bytes]:
    """The last owner of its headers is the key by which they are looked up."""
    name = Name("Content-Type")
    name.port = environ["SERVER_PORT"]
    headers: list[tuple[str, str]] = [(name, "text/plain"), TEXT[1]]
    name.headers = headers
    del name
    start("200 OK", headers)
    return [b"forgetting"]


def emptied(environ: Environ, start: Start) -> Iterable[bytes]:
    """As above, and nothing is forgotten."""
    name = Name("Content-Type")
    headers: list[tuple[str, str]] = [(name, "text/plain"), TEXT[1]]
    name.headers = headers
    start("200 OK", headers)
    return [b"emptied %d" % len(headers)]


class Again(str):
    """A status that calls start_response when it is looked at."""

    start: Start | None = None

    def __hash__(self) -> int:
        start, self.start = self.start, None
        if start is not None:
            start("404 Not Found", list(TEXT))
        return str.__hash__(self)


def within(environ: Environ, start: Start) -> Iterable[bytes]:
    status = Again("200 OK")
    status.start = start
    start(status, list(TEXT))
    return [b"within"]


class Raising(str):
    """A status that cannot be looked up."""

    def __hash__(self) -> int:
        raise KeyError("no hash")


def odd_calls(environ: Environ, start: Start) -> Iterable[bytes]:
    """Every way to call it that PEP 3333 does not know; answers how each ended."""
    told = []
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}), (("200 OK",), {}), (("200 OK", None), {}), (("200 OK", 5, None, None), {}), ((), {"status": "2"}),
        (("200 OK", [1]), {}), (("200 OK", [()]), {}), (("200 OK", [[]]), {}), ((None, []), {}), ((b"200 OK", []), {}),
        (("200 OK", [("X-Index", Number())]), {}), ((Raising("200 OK"), []), {}), (("200 OK", []), {"exc": 1}),
        (("99", []), {}), (("200 OK", [("X-A", "b")], (ValueError, ValueError(), None)), {}),
    ]  # fmt: skip
    for words, names in calls:
        try:
            start(*words, **names)
        except Exception as error:  # noqa: BLE001 - what is asked
            told.append(type(error).__name__)
        else:
            told.append("fine")
    start("200 OK", list(TEXT), (ValueError, ValueError(), None))
    return [" ".join(told).encode()]


class Number:
    """What is an integer where somebody asks."""

    def __index__(self) -> int:
        return 7


KEPT: list[Any] = []


def kept(environ: Environ, start: Start) -> Iterable[bytes]:
    """Call the start_response of the last request, and keep this one."""
    told = []
    for each in KEPT:
        try:
            each("200 OK", list(TEXT))
        except Exception as error:  # noqa: BLE001 - what is asked
            told.append(type(error).__name__)
    KEPT[:] = [start]
    environ["mine"] = environ["kept"] = start
    gc.collect()
    start("200 OK", list(TEXT))
    return [b"kept " + " ".join(told).encode()]


LONG = 5000
RESULTS: SimpleQueue[tuple[list[bytes], Environ]] = SimpleQueue()
EMPTIER = threading.Lock()


def taken_away(environ: Environ, start: Start) -> Iterable[bytes]:
    """Another thread empties what was returned, and the environ, while the answer is sent."""
    if EMPTIER.acquire(blocking=False):
        threading.Thread(target=_empty, daemon=True).start()
    environ["REMOTE_ADDR"] = "".join(["10.", environ["QUERY_STRING"]])
    result = [bytes(bytearray(b"7" * LONG))]
    start("200 OK", list(TEXT))
    RESULTS.put((result, environ))
    return result


def _empty() -> None:
    while True:
        result, environ = RESULTS.get()
        select.select([], [], [], 0.0001)
        result.clear()
        environ.clear()


def wsgi(environ: Environ, start: Start) -> Iterable[bytes]:
    """Call the function that the path names."""
    return globals()[environ["PATH_INFO"][1:]](environ, start)  # type: ignore[no-any-return]


class Key:
    """A key like another that changes the message when it is compared with it."""

    def __init__(self, like: str, change: Callable[[], object]) -> None:
        self.like = like
        self.change = change

    def __hash__(self) -> int:
        return hash(self.like)

    def __eq__(self, other: object) -> bool:
        self.change()
        return False


Send = Callable[[Message], Awaitable[None]]


async def asgi(scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    """Change each message while it is read; the path says which part."""
    if scope["type"] != "http":
        raise ValueError("no lifespan here")
    start: Message = {}
    body: Message = {}
    path = scope["path"]
    headers = [(b"content-type", b"text/plain")]
    if path == "/status":
        start[Key("headers", lambda: start.update(status=int("404")))] = None
    elif path == "/headers":
        start[Key("trailers", lambda: start.update(headers=[(b"x-changed", b"yes")]))] = None
    elif path == "/body":
        body[Key("more_body", lambda: body.update(body=b"y" * 5000))] = None
    start |= {"type": "http.response.start", "status": int("200"), "headers": headers}
    del headers
    body |= {"type": "http.response.body", "body": bytes(bytearray(b"x" * 5000))}
    await send(start)
    await send(body)
