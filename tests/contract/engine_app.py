"""The WSGI application of the engine's own contract: each path does one thing that an application may do."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

from forkserve.serving.native import hot

Environ = dict[str, Any]
Start = Callable[..., Any]
TEXT = [("Content-Type", "text/plain")]
CLOSED: list[str] = []
"""Paths whose iterable was closed."""


class Body:
    """An iterable that notes its end."""

    def __init__(self, name: str, blocks: Iterable[Any]) -> None:
        self.name = name
        self.blocks = iter(blocks)

    def __iter__(self) -> Iterator[Any]:
        return self.blocks

    def close(self) -> None:
        CLOSED.append(self.name)


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start("200 OK", TEXT)
    return [body]


def lines(environ: Environ, start: Start) -> Iterable[bytes]:
    source = environ["wsgi.input"]
    first = source.readline(), source.readline(2)
    start("200 OK", TEXT)
    return [b"|".join([*first, *source])]


def facts(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str | bool)}).encode()]


def until_drained(environ: Environ, start: Start) -> Iterable[bytes]:
    """Stream for as long as the worker does not drain; gevent has replaced what Event waits by."""
    start("200 OK", TEXT)
    pause = threading.Event()
    while not environ["forkserve.draining"]():
        yield b"tick "
        pause.wait(0.02)
    yield b"over"


def stream(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return Body("stream", (b"%d," % number for number in range(5)))


def endless(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)

    def blocks() -> Iterator[bytes]:
        while True:
            SENT.append(1)
            yield b"x" * 65536

    return Body("endless", blocks())


SENT: list[int] = []


def sent(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return [b"%d" % len(SENT)]


def closed(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return [json.dumps(CLOSED).encode()]


def empty(environ: Environ, start: Start) -> Iterable[bytes]:
    start("204 No Content", [])
    return []


LARGE = b"l" * 8_000_000


def large(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", str(len(LARGE)))])
    return [LARGE]


def several(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return [b"a", b"", b"bc"]


def write(environ: Environ, start: Start) -> Iterable[bytes]:
    put = start("200 OK", TEXT)
    for _ in range(40):
        put(b"w" * 65536)
    return [b"end"]


WRITES: list[Any] = []


def keeps_write(environ: Environ, start: Start) -> Iterable[bytes]:
    WRITES.append(start("200 OK", TEXT))
    return [b"kept"]


def uses_kept(environ: Environ, start: Start) -> Iterable[bytes]:
    try:
        WRITES.pop()(b"of another")
    except ValueError as error:
        start("200 OK", TEXT)
        return [str(error).encode()]
    return []


def shorter(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", "10")])
    return [b"short"]


def longer(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", "4")])
    return Body("longer", [b"long", b"er"])


def raising(environ: Environ, start: Start) -> Iterable[bytes]:
    raise ValueError("secret of the house")


def late(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)

    def blocks() -> Iterator[bytes]:
        yield b"begun"
        raise ValueError("too late")

    return Body("late", blocks())


def retracted(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"sorry"]


def twice(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    start("200 OK", TEXT)
    return [b""]


def text(environ: Environ, start: Start) -> Iterable[Any]:
    start("200 OK", TEXT)
    return Body("text", ["a str"])


def nonsense(environ: Environ, start: Start) -> Any:
    start("200 OK", TEXT)
    return 7


def never_started(environ: Environ, start: Start) -> Iterable[bytes]:
    return [b"no status"]


def injected(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-A", "b\r\nX-C: d")])
    return [b""]


def hop(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Transfer-Encoding", "chunked"), ("Keep-Alive", "timeout=5")])
    return [b"ok"]


def leaves(environ: Environ, start: Start) -> Iterable[bytes]:
    sys.exit(3)


def interrupts(environ: Environ, start: Start) -> Iterable[bytes]:
    raise KeyboardInterrupt


def once_through(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", iter([("X-A", "b")]))
    return [b"ok"]


def forks(environ: Environ, start: Start) -> Iterable[bytes]:
    pid = os.fork()
    start("200 OK", TEXT)
    if pid:
        os.waitpid(pid, 0)
    return [b"parent" if pid else b"child"]


def hangs(environ: Environ, start: Start) -> Iterable[bytes]:
    threading.Event().wait(60)
    return []


def receives(environ: Environ, start: Start) -> Iterable[bytes]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)
    return []


def spins(environ: Environ, start: Start) -> Iterable[bytes]:
    while True:
        pass


def file(environ: Environ, start: Start) -> Iterable[bytes]:
    source = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the server
    source.write(b"0123456789" * 100_000)
    source.seek(5)
    headers = TEXT if not environ["QUERY_STRING"] else [*TEXT, ("Content-Length", environ["QUERY_STRING"])]
    start("200 OK", headers)
    return environ["wsgi.file_wrapper"](source, 4096)  # type: ignore[no-any-return]


def reads(environ: Environ, start: Start) -> Iterable[bytes]:
    """Send what `read()` of an odd file gives; the query says which."""
    kind = environ["QUERY_STRING"]
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "file")
    if kind in ("bz2", "gzip", "lzma"):
        module = importlib.import_module(kind)
        with module.open(path, "wb") as packed:
            packed.write(b"0123456789" * 1000)
        source: Any = io.BufferedReader(module.open(path, "rb"))
    elif kind == "fifo":
        end, begin = os.pipe()
        with open(begin, "wb") as writer:  # gevent's os.close() waits for its loop
            writer.write(b"0123456789" * 1000)
        source = open(end, "rb")  # noqa: SIM115 - closed by the server
    elif kind == "proc":
        source = open("/proc/self/stat", "rb")  # noqa: SIM115 - closed by the server
    else:
        source = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by the server
        source.write(b"ab" + b"0123456789" * 1000)
        source.seek(2)
    shutil.rmtree(folder)
    start("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](source)  # type: ignore[no-any-return]


class Reader:
    """Something that can be read and is no file."""

    def __init__(self) -> None:
        self.left = 3

    def read(self, size: int) -> bytes:
        self.left -= 1
        return b"r" * 10 if self.left >= 0 else b""


def reader(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](Reader())  # type: ignore[no-any-return]


def refuses(environ: Environ, start: Start) -> Iterable[bytes]:
    start("403 Forbidden", [*TEXT, ("Content-Length", "2")])
    return [b"no"]


def promised(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"hello"]


def promised_less(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", "3")])
    return (b"hello",)


def pair(environ: Environ, start: Start) -> Iterable[bytes]:
    start(status="200 OK", headers=[*TEXT, ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    return (b"hel", b"lo")


def threads(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return [b"%d %d" % (threading.active_count(), len(os.listdir("/proc/self/fd")))]


HOARD: list[int] = []
KEPT: list[int] = []


def hoard(environ: Environ, start: Start) -> Iterable[bytes]:
    """Take all descriptors that there are, the first for a file."""
    KEPT.append(os.open(__file__, os.O_RDONLY))
    try:
        while True:
            HOARD.append(os.dup(0))
    except OSError:
        return promised(environ, start)


def let_go_of_hoard(environ: Environ, start: Start) -> Iterable[bytes]:
    while HOARD:
        os.close(HOARD.pop())
    return promised(environ, start)


def kept_file(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](os.fdopen(KEPT[0], "rb", closefd=False))  # type: ignore[no-any-return]


def taken(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Cache-Control", "no-store")])
    return [json.dumps({} if hot is None else hot.taken()).encode()]


def late_threads() -> None:
    """Nothing starts at import."""


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    """Call the function that the path names."""
    called = globals().get(environ["PATH_INFO"][1:] or "facts", facts)
    return called(environ, start)  # type: ignore[no-any-return]


def _checked(environ: Environ, start: Start) -> Iterable[bytes]:
    environ["wsgi.input"].read(10)
    start("200 OK", TEXT)
    return Body("checked", [b"fine"])


checked = validator(_checked)
