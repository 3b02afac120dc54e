"""Has every allocation fail in turn while a real worker serves: the connection may pay for it, the worker may not.

What must hold, for the n-th allocation of a turn and each kind of request: the worker lives on; the client gets a
response or the end of its connection, and soon; the next request is answered right; no failed call is taken for
one that worked (a SystemError). A worker that died is started again, and what killed it is told.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

from tests.support.serving import PATIENCE, Served, bound
from tests.support.starved_worker import Order

__all__ = ["BACKENDS", "Finding", "Starved", "can_starve", "fuzz_allocations", "starve"]

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SOON = 5.0
"""Seconds until a client whose request met the failure must have its response, or the end."""
WORDS = (
    "--header-timeout",
    "1",
    "--body-timeout",
    "1",
    "--keep-alive",
    "10",
    "--timeout",
    "5",
    "--graceful-timeout",
    "2",
)
BACKENDS = ("sync", "threads", "asgi")
"""Not gevent: a greenlet whose own allocation fails ends the process within greenlet (`Greenlet::expose_frames`)."""
ENOUGH = 3
"""Allocations in a row that no turn of an exchange comes to, so that all of it have failed."""
GOOD = b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n"
Pieces = tuple[bytes, ...]
_MISTAKEN = re.compile(r"SystemError: .*(?:forkserve|Connection|Exchange)")
"""CPython says so of a function in C that has failed without an exception, or has not and left one."""
_OTHERS = re.compile(r'Segmentation fault(?s:.*)Current thread [^\n]*\n  File "[^"]*/http/(?:llhttp|fields)\.py"')
"""Cython's own part of httptools makes a traceback of no exception when that is the allocation that fails."""


def can_starve() -> bool:
    """Whether this interpreter can have an allocation fail: it lacks the module where its tests are not installed."""
    return find_spec("_testcapi") is not None


def exchanges(number: int) -> dict[str, Pieces]:
    """What is sent while an allocation fails, by name."""
    fresh = b"GET /k%d HTTP/1.1\r\nHost: a\r\nCookie: a=%d\r\nAccept: */*\r\n\r\n" % (number, number)
    post = b"POST /k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    chunked = b"POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    return {
        "known": (GOOD,),
        "fresh": (fresh,),
        "two": (GOOD + fresh,),
        "body": (post + b"hello",),
        "body in pieces": (post + b"he", b"llo"),
        "chunked": (chunked,),
        "head in pieces": (GOOD[:20], GOOD[20:]),
        "large": (b"GET /l HTTP/1.1\r\nHost: a\r\n\r\n",),
        "refused": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",),
        "last": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",),
    }


@dataclass(frozen=True, slots=True)
class Finding:
    """What did not hold."""

    backend: str
    number: int
    exchange: str
    what: str

    def __str__(self) -> str:
        return f"{self.backend}, allocation {self.number}, exchange {self.exchange!r}: {self.what}"


class Starved:
    """A worker whose allocations fail on demand."""

    def __init__(self, backend: str, *, pure: bool = False, access_log: bool = False) -> None:
        self.backend = backend
        self.order, self._fd = Order.made()
        self._listener = bound()
        self._cut = False
        self.alive = True
        self.log = ""
        app = "plain:asgi" if backend == "asgi" else "plain:wsgi"
        log = ("--access-log", os.devnull) if access_log else ()
        fds = (self._listener.fileno(), self._fd)
        environ = {"STARVED": str(self._fd), "FORKSERVE_PURE": "1" if pure else "", "PYTHONPATH": str(ROOT)}
        environ["PYTHONFAULTHANDLER"] = "1"
        if "ASAN_OPTIONS" in os.environ:
            # So that faulthandler says whose fault it is.
            environ["ASAN_OPTIONS"] = os.environ["ASAN_OPTIONS"] + ":handle_segv=0"
        words = ["--fd", str(fds[0]), "--backend", backend, "--chdir", str(FOLDER), *WORDS, *log]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.starved_worker", *words, app],
            env={**os.environ, **environ},
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        self.served = Served(process, self._listener)
        self.served.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        process = self.served.process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        assert process.stderr is not None
        process.stderr.close()
        self._listener.close()
        os.close(self._fd)

    def _ended(self) -> str | None:
        """Say how the worker ended; None while it lives."""
        process = self.served.process
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its sockets may close a moment before it can be waited for.
            process.wait(0.05 if self._cut else 0)
        if process.returncode is None:
            return None
        status = process.returncode
        return (
            f"the worker died by {signal.Signals(-status).name}" if status < 0 else f"the worker ended, status {status}"
        )

    def _read_log(self) -> None:
        assert self.served.process.stderr is not None
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.served.process.stderr.fileno(), 65536):
                self.log += part.decode(errors="replace")

    def try_one(self, number: int, name: str, *, kept: bool) -> tuple[str | None, bool]:
        """Have one allocation fail during one exchange; return what did not hold, and whether it came so far."""
        wrong = self._exchange(number, exchanges(number)[name], kept=kept)
        self.order.end()
        if wrong is None:
            wrong = self._good()
        # Now, for the turn may have ended after its client had the answer.
        reached = self.order.reached
        self._read_log()
        log, self.log = self.log, ""
        ended = self._ended()
        if ended is not None:
            self.alive = False
            return None if _OTHERS.search(log) else f"{ended}\n{log[-3000:]}", reached
        if _MISTAKEN.search(log):
            wrong = f"a failed call was taken for a good one\n{log[-3000:]}"
        return wrong, reached

    def _exchange(self, number: int, pieces: Pieces, *, kept: bool) -> str | None:
        """Send while the allocation fails; say what is wrong with what comes back."""
        try:
            if not kept:
                self.order.give(number)
            with socket.create_connection(self.served.address, SOON) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if kept:
                    client.sendall(GOOD)
                    self._read(client, 1)
                    self.order.give(number)
                for piece in pieces:
                    client.sendall(piece)
                received = self._read(client, b"".join(pieces).count(b" HTTP/1.1\r\n"), excused=True)
        except TimeoutError:
            return None if self.order.excused else f"its client waits for more than {SOON:g} s"
        except (ConnectionError, BrokenPipeError):
            return None
        if received and not received.startswith(b"HTTP/1.1 "):
            return f"this is no response: {received[:200]!r}"
        return None

    def _read(self, client: socket.socket, count: int, *, excused: bool = False) -> bytes:
        """Read until so many answers have ended, or the connection; raises TimeoutError, soon if none can come."""
        received, until = b"", monotonic() + SOON
        client.settimeout(0.2)
        while _answers(received) < count:
            try:
                part = client.recv(1 << 20)
            except TimeoutError:
                hopeless = self.served.process.poll() is not None or (excused and self.order.excused)
                if hopeless or monotonic() > until:
                    raise
                continue
            if not part:
                break
            received += part
        return received

    def _good(self) -> str | None:
        try:
            with socket.create_connection(self.served.address, SOON) as client:
                client.sendall(GOOD)
                received = self._read(client, 1)
        except OSError as error:
            self._cut = True
            return f"the next request was not answered: {type(error).__name__}"
        if not (received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"whole")):
            return f"the next request was answered {received[:300]!r}"
        return None


def _answers(received: bytes) -> int:
    """How many whole answers begin these bytes."""
    count = 0
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length is not None and len(rest) < int(length[1]):
            break
        if length is None and b"0\r\n\r\n" not in rest:
            break
        received = rest[int(length[1]) :] if length is not None else rest.partition(b"0\r\n\r\n")[2]
        count += 1
    return count


def starve(
    backend: str, *, pure: bool = False, access_log: bool = False, only: str | None = None
) -> Iterator[Finding | int]:
    """Yield what does not hold, and at the end how many allocations were made to fail; `only` in one exchange."""
    worker = Starved(backend, pure=pure, access_log=access_log)
    names = [only] if only else list(exchanges(0))
    left = dict.fromkeys([(names[0], False), *((name, True) for name in names)], ENOUGH)
    count = 0
    try:
        for number in itertools.count():
            for name, kept in list(left):
                wrong, reached = worker.try_one(number, name, kept=kept)
                count += reached
                left[name, kept] = ENOUGH if reached else left[name, kept] - 1
                if not left[name, kept]:
                    del left[name, kept]
                if wrong is not None:
                    yield Finding(backend, number, name if kept else f"{name}, with its accept", wrong)
                if wrong is not None or not worker.alive:
                    worker.close()
                    worker = Starved(backend, pure=pure, access_log=access_log)
            if not left:
                break
    finally:
        worker.close()
    yield count


def fuzz_allocations(backends: Sequence[str], *, pure: bool = False) -> int:
    """Have all allocations of all backends fail in turn; 1 if something broke."""
    broken = 0
    for backend, access_log in itertools.product(backends, (False, True)):
        logged = ", with an access log" if access_log else ""
        for found in starve(backend, pure=pure, access_log=access_log):
            if isinstance(found, Finding):
                broken += 1
                print(f"BROKEN: {found}{logged}", flush=True)
            else:
                print(f"allocations: {backend}{logged}: {found} made to fail", flush=True)
    return 1 if broken else 0
