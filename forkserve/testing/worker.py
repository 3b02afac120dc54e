"""A worker under test: started as its master would start it, on a socket that is bound here."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from typing import IO, Any

from forkserve.backends.base import Interface
from forkserve.testing.client import ClientConnection, Failed, Response, expect

__all__ = ["PATIENCE", "WorkerUnderTest", "listening"]

PATIENCE = 20.0
"""Seconds to wait for an immediate event."""


def listening() -> socket.socket:
    """Return a listening socket, made as the master makes them."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class WorkerUnderTest:
    """One worker of one backend, with the application of an interface or another attribute of the same module."""

    def __init__(self, backend: str, interface: Interface, *, attribute: str = "", listener: socket.socket) -> None:
        self.backend = backend
        self.interface = interface
        self._attribute = attribute or interface.value
        self._listener = listener
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._entered, self._enter = os.pipe()
        self._leave, self._open = os.pipe()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._listener.fileno()
        words = ["--fd", str(number), "--backend", self.backend, "--interface", self.interface.value]
        words += ["--graceful-timeout", "15", f"forkserve.testing.application:{self._attribute}"]
        # -P keeps this folder out of sys.path; the entry point of `forkserve-worker` does the same.
        return subprocess.Popen(
            [sys.executable, "-P", "-c", "import sys; from forkserve.cli.worker import main; sys.exit(main())", *words],
            env={**os.environ, "FORKSERVE_TESTING_GATE": f"{self._enter},{self._leave}"},
            pass_fds=(number, self._enter, self._leave),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def address(self) -> tuple[str, int]:
        """The address of its listener."""
        host, port = self._listener.getsockname()
        return host, port

    @property
    def log(self) -> str:
        """Its output so far."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def connect(self, *, patience: float = PATIENCE, receive_buffer: int | None = None) -> ClientConnection:
        """Open a connection."""
        return ClientConnection(self.address, patience=patience, receive_buffer=receive_buffer)

    def ask(self, path: str = "/", *, method: str = "GET", fields: str = "", body: bytes = b"") -> Response:
        """Make one request on a new connection."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}{fields}\r\n"
        with self.connect() as connection:
            connection.send(head.encode("latin-1") + body)
            return connection.response(method)

    def facts(self, path: str = "/", **more: Any) -> dict[str, Any]:
        """Make one request and return it as the application saw it."""
        response = self.ask(path, **more)
        expect(response.status == 200, f"status {response.status}")
        found = json.loads(response.body)
        expect(isinstance(found, dict), f"answered {response.body[:80]!r}")
        return dict(found)

    def entered(self) -> None:
        """Wait until a request for /wait is in the application."""
        ready, _, _ = select.select([self._entered], [], [], PATIENCE)
        expect(ready, "the request did not reach the application")
        os.read(self._entered, 1)

    def release(self) -> None:
        """Let the request for /wait finish."""
        os.write(self._open, b".")

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def restart(self) -> None:
        """Start the worker again after it has died or hangs."""
        self._end()
        self.process = self._start()

    def terminate(self) -> None:
        """Send the signal to drain and end."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for the end and return the exit status."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed("it has not ended") from None

    def stop(self) -> None:
        """End the worker, by force if needed, and release everything."""
        if self.alive():
            self.terminate()
            with contextlib.suppress(Failed):
                self.ended()
        self._end()
        self._log.close()
        for fd in (self._entered, self._enter, self._leave, self._open):
            os.close(fd)

    def _end(self) -> None:
        if self.alive():
            self.process.kill()
        self.process.wait(PATIENCE)
