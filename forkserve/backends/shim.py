"""A wrapper of a WSGI application that repairs faults of some servers before they matter.

Rules: it costs nothing for a server that needs no repair, except that stop signals are reinstalled after an application
that has taken them over in a request. A response header that would be split (CR, LF) or truncated (NUL) becomes a 500
and one ERROR line; a response to HEAD has no body, and keeps its Content-Length (RFC 9110 9.3.2).
"""

from __future__ import annotations

import itertools
import logging
import random
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from forkserve.backends.base import App, Repair, Run

__all__ = ["Shim", "count_requests", "server_address"]

log = logging.getLogger("forkserve.worker")

_BAD_VALUE = re.compile(r"[\r\n\0]")
_BAD_NAME = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_FAILED = b"Internal Server Error"

StartResponse = Callable[..., Callable[[bytes], object]]


class _RefusedError(Exception):
    """The application tried to send a header that would have been split."""


class Shim:
    """An application repaired for its server; `repairs` are the server's traits."""

    def __init__(self, app: App, repairs: frozenset[Repair], listeners: Sequence[socket.socket], run: Run) -> None:
        self.app = app
        self.head = Repair.HEAD in repairs
        self.headers = Repair.HEADERS in repairs
        self.write = Repair.WRITE in repairs
        self.server = server_address(listeners[0]) if Repair.ADDRESS in repairs and len(listeners) == 1 else None
        self.unix = Repair.ADDRESS in repairs and all(each.family == socket.AF_UNIX for each in listeners)
        self.software = run.server
        self.count = count_requests(run)
        self.hold_signals = run.hold_signals

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        self.count()
        # A client must not choose the application's outgoing proxy (httpoxy, CVE-2016-5385).
        environ.pop("HTTP_PROXY", None)
        if environ.get("SERVER_SOFTWARE") is None:
            environ["SERVER_SOFTWARE"] = self.software
        if self.server is not None:
            environ["SERVER_NAME"], environ["SERVER_PORT"] = self.server
        if self.unix:
            environ["REMOTE_ADDR"] = ""
            environ.pop("REMOTE_PORT", None)
        if self.headers:
            start_response = _checked(start_response)
        try:
            return self._run(environ, start_response)
        except _RefusedError as error:
            log.error("%s %s answered with 500: %s", environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), error)
            length = str(len(_FAILED))
            start_response("500 Internal Server Error", [("Content-Type", "text/plain"), ("Content-Length", length)])
            return [_FAILED] if environ["REQUEST_METHOD"] != "HEAD" else []
        finally:
            self.hold_signals()

    def _run(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        head = self.head and environ["REQUEST_METHOD"] == "HEAD"
        if not head and not self.write:
            return self.app(environ, start_response)  # type: ignore[no-any-return]
        answer = _Answer(start_response)
        body = self.app(environ, answer.start_response)
        if head:
            return answer.without_body(body)
        return answer.with_written(body) if answer.written else body


class _Answer:
    """One response, seen from its start_response."""

    def __init__(self, start_response: StartResponse) -> None:
        self.begin = start_response
        self.begun = False
        self.written: list[bytes] = []

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        self.begun = True
        self.begin(status, headers, *exc_info)
        return self.written.append

    def without_body(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Let the application send its headers, and drop the rest."""
        try:
            if not self.begun:
                next(iter(body), b"")
        finally:
            _close(body)
        return []

    def with_written(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Put what was sent by write() before the body."""
        try:
            yield from self.written
            yield from body
        finally:
            _close(body)


def count_requests(run: Run) -> Callable[[], None]:
    """Return a function to call for each request: after max_requests it begins to drain."""
    life = run.options.lifetime
    if not life.max_requests:
        return lambda: None
    limit = life.max_requests + random.randint(0, life.max_requests_jitter)
    numbers = itertools.count(1)

    def count() -> None:
        if next(numbers) >= limit:
            run.drain(f"{limit} requests served")

    return count


def server_address(listener: socket.socket) -> tuple[str, str]:
    """Return SERVER_NAME and SERVER_PORT for a listener; a unix socket has neither, so it gets the usual ones."""
    if listener.family == socket.AF_UNIX:
        return "localhost", "80"
    name = listener.getsockname()
    return str(name[0]), str(name[1])


def _checked(start_response: StartResponse) -> StartResponse:
    def check(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        if _BAD_VALUE.search(status):
            raise _RefusedError("the status has a control character in it")
        for name, value in headers:
            if _BAD_NAME.search(name) or not name:
                raise _RefusedError(f"{name!r} is no name of a header")
            if _BAD_VALUE.search(value):
                raise _RefusedError(f"the header {name} has a control character in its value")
        return start_response(status, headers, *exc_info)

    return check


def _close(body: Any) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def asgi_shim(app: App, repairs: frozenset[Repair], run: Run) -> App:
    """Repair an ASGI application for its server: count its requests, drop header names with underscores."""
    count = count_requests(run)
    names = Repair.NAMES in repairs

    async def mended(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            count()
        if names and any(b"_" in name for name, _ in scope.get("headers", ())):
            scope["headers"] = [field for field in scope["headers"] if b"_" not in field[0]]
        try:
            await app(scope, receive, send)
        finally:
            run.hold_signals()

    return mended
