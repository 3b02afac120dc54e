"""Applications that take their time, that hold the worker, or that fork; WSGI, and ASGI in `asgi`."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
Start = Callable[..., Any]
LIBC = ctypes.CDLL(None)
CHILD = "import os, sys; sys.exit(9)"


def ticks() -> Iterator[bytes]:
    """Yield for longer than any silence."""
    for _ in range(8):
        threading.Event().wait(0.15)
        yield b"tick,"


def waits() -> Iterator[bytes]:
    """Yield nothing for longer than any silence, as middleware does that waits (PEP 3333), then something."""
    for _ in range(8):
        threading.Event().wait(0.15)
        yield b""
    yield b"came"


def nothing() -> Iterator[bytes]:
    """Yield nothing for ever."""
    while True:
        threading.Event().wait(0.02)
        yield b""


def silence() -> Iterator[bytes]:
    """Fall silent in the middle."""
    yield b"tick,"
    threading.Event().wait(60)


def elapsed() -> Iterator[bytes]:
    """Sleep in C, which does not go on after EINTR."""
    began = time.monotonic()
    LIBC.usleep(700_000)
    yield str(time.monotonic() - began).encode()


def sleeps() -> Iterator[bytes]:
    """Keep the thread in C."""
    LIBC.sleep(60)
    yield b"slept"


def deaf() -> Iterator[bytes]:
    """Let nothing end it."""
    while True:
        with contextlib.suppress(BaseException):
            LIBC.sleep(60)
    yield b""


def spins() -> Iterator[bytes]:
    """Keep the processor."""
    while True:
        pass
    yield b""


def pid() -> Iterator[bytes]:
    """Tell who serves."""
    yield str(os.getpid()).encode()


def stopped() -> Iterator[bytes]:
    """Say that it waits, then answer."""
    os.write(int(os.environ["GATE"].split(",")[0]), b".")
    threading.Event().wait(0.5)
    yield b"went on"


def in_child(end: Callable[[], object]) -> Iterator[bytes]:
    """Fork; tell how the child ended and which sockets it had."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        threading.Event().wait(0.02)
        os.write(write, json.dumps(sockets()).encode())
        end()
    os.close(write)
    status = os.waitpid(child, 0)[1]
    found = json.loads(os.read(read, 65536))
    os.close(read)
    yield json.dumps([os.waitstatus_to_exitcode(status), found, len(sockets()) > 0]).encode()


def sockets() -> list[str]:
    """The sockets that this process has, by their numbers in the kernel."""
    names = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                names.append(os.readlink(f"/proc/self/fd/{name}"))
    unix = {f"socket:[{line.split()[6]}]" for line in open("/proc/net/unix").readlines()[1:]}  # noqa: SIM115
    return [each for each in names if each not in unix]


def exits() -> Iterator[bytes]:
    """End the child by os._exit."""
    return in_child(lambda: os._exit(7))


def leaves() -> Iterator[bytes]:
    """End the child by sys.exit."""
    return in_child(lambda: sys.exit(5))


def raises() -> Iterator[bytes]:
    """End the child by an error."""
    return in_child(lambda: {}["missing"])


RAN_READ, RAN = os.pipe()


def slowly() -> Iterator[bytes]:
    """Note each process in which this request goes on."""
    threading.Event().wait(0.2)
    os.write(RAN, b".")
    threading.Event().wait(0.5)
    yield b"ran in %d process" % len(os.read(RAN_READ, 100))


def outlives() -> Iterator[bytes]:
    """Fork a child that waits for longer than the other request does."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        threading.Event().wait(0.4)
        os.write(write, b".")
        os._exit(7)
    os.close(write)
    status = os.waitpid(child, 0)[1]
    yield json.dumps([os.waitstatus_to_exitcode(status), os.read(read, 1) == b"."]).encode()
    os.close(read)


def waits_and_leaves(code: int) -> None:
    """Run in a process of multiprocessing."""
    threading.Event().wait(0.3)
    sys.exit(code)


def processes() -> Iterator[bytes]:
    """Tell how processes of multiprocessing end."""
    method = os.environ["METHOD"]
    made = [
        multiprocessing.get_context(method).Process(target=waits_and_leaves, args=(code,))  # type: ignore[attr-defined]
        for code in (3, 4)
    ]
    for each in made:
        each.start()
    for each in made:
        each.join(10)
    yield json.dumps([each.exitcode for each in made]).encode()


def command() -> Iterator[bytes]:
    """Tell how a command ends."""
    yield str(subprocess.run([sys.executable, "-c", CHILD], check=False).returncode).encode()


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    """Run the function that the path names."""
    start("200 OK", [("Content-Type", "text/plain")])
    return globals()[environ["PATH_INFO"][1:]]()  # type: ignore[no-any-return]


def strict(environ: Environ, start: Start) -> Iterable[bytes]:
    """Answer in one piece, so that what is late can be answered 504."""
    body = b"".join(globals()[environ["PATH_INFO"][1:]]())
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(
    scope: Environ, receive: Callable[[], Awaitable[Environ]], send: Callable[[Environ], Awaitable[None]]
) -> None:
    """Run the function that the path names, blocking the loop."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    body = b"".join(globals()[scope["path"][1:]]())
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
