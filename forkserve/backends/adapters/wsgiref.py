"""The standard library's WSGI server with its gaps closed: for development, and where nothing else is installed.

Rules: HTTP/1.0 answers, one request a connection. This module adds what wsgiref lacks: a body ends at its
Content-Length, a chunked one is refused (wsgiref cannot read it), and silent clients and headers with underscores in
their names are dropped.
"""

from __future__ import annotations

import io
import selectors
import socket
import socketserver
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.shim import Shim, server_address
from forkserve.unix.signalmask import PULSE

__all__ = ["Wsgiref"]

UNREAD = 1 << 20
"""Bytes of an unread body that are read and discarded, so that closing the connection does not reset the answer."""


class _Body(io.RawIOBase):
    """Limits reads to the body of the request."""

    def __init__(self, stream: Any, length: int) -> None:
        self.stream = stream
        self.left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read1(min(len(buffer), self.left)) if self.left else b""
        if self.left and not data:
            raise ConnectionResetError("the client closed the connection within the body")
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class _Handler(WSGIRequestHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.client_timeout)

    def get_environ(self) -> dict[str, Any]:
        for name in list(self.headers):
            if "_" in name or name.lower() == "proxy":
                del self.headers[name]
        environ: dict[str, Any] = super().get_environ()
        return environ

    def address_string(self) -> str:
        return str(self.client_address[0])

    def handle(self) -> None:
        try:
            self._handle()
        except (TimeoutError, ConnectionError):
            self.close_connection = True

    def _handle(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if len(self.raw_requestline) > self.server.line_limit:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        length = self.headers.get("content-length", "0").strip()
        if "transfer-encoding" in self.headers or len(self.headers.get_all("content-length", [])) > 1:
            self.send_error(411)
            return
        if not (length.isascii() and length.isdecimal()):
            self.send_error(400)
            return
        self._run(_Body(self.rfile, int(length)))

    def _run(self, body: _Body) -> None:
        handler = ServerHandler(
            io.BufferedReader(body),
            self.wfile,  # type: ignore[arg-type]
            self.get_stderr(),
            self.get_environ(),
            multithread=self.server.pool is not None,
            multiprocess=True,
        )
        handler.request_handler = self  # type: ignore[attr-defined]
        handler.run(self.server.mended)
        for _ in range(UNREAD // 65536):
            if not body.left or not body.read(65536):
                break

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: wsgiref would log every request to stderr."""


class _Server(WSGIServer):
    """One listener, already bound; its host name is not looked up."""

    client_timeout: float | None = None
    line_limit = 65536
    pool: ThreadPoolExecutor | None = None

    def __init__(self, listener: socket.socket, app: App) -> None:
        socketserver.BaseServer.__init__(self, listener.getsockname(), _Handler)
        self.socket = listener
        self.server_name, port = server_address(listener)
        self.server_port = int(port)
        self.setup_environ()
        self.mended = app

    def get_request(self) -> tuple[Any, Any]:
        conn, peer = self.socket.accept()
        conn.setblocking(True)
        return conn, peer or ("", 0)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.pool is None:
            super().process_request(request, client_address)
        else:
            self.pool.submit(self._in_thread, request, client_address)

    def _in_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - one request
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)


class Wsgiref:
    """wsgiref.simple_server on inherited sockets."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="one request at a time, or --threads",
        repairs=frozenset({Repair.HEAD, Repair.HEADERS}),
        honours=frozenset({"graceful_timeout", "threads", "max_requests", "max_requests_jitter", "header_timeout"}),
        weaknesses=("for development", "no keep-alive", "no chunked request bodies", "lenient parser"),
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        mended = Shim(app, self.traits.repairs, listeners, run)
        threads = run.options.concurrency.threads
        pool = ThreadPoolExecutor(threads, thread_name_prefix="wsgi") if threads > 1 else None
        with selectors.DefaultSelector() as selector:
            selector.register(run.drain_fd, selectors.EVENT_READ)
            for listener in listeners:
                server = _Server(listener, mended)
                server.client_timeout = run.options.timeouts.header_timeout or None
                server.line_limit = run.options.http.limit_request_line or 65536
                server.pool = pool
                selector.register(listener, selectors.EVENT_READ, server)
            run.ready()
            while not run.draining:
                for key, _ in selector.select(PULSE):
                    if key.data is not None:
                        key.data._handle_request_noblock()
        if pool is not None:
            pool.shutdown(wait=True)
