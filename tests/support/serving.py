"""A `forkserve-worker` as its master would start it: on a socket that the test has bound and hands over by number."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMMAND", "Gate", "Outcome", "Served", "bound", "run_worker", "serving", "start"]

COMMAND = str(Path(sys.executable).parent / "forkserve-worker")
PATIENCE = 20.0
"""Seconds until a test gives up on what should come at once."""


def bound(family: int = socket.AF_INET, address: object = ("127.0.0.1", 0)) -> socket.socket:
    """Return a listening socket as the master makes it: blocking, TCP_NODELAY."""
    sock = socket.socket(family)
    sock.bind(address)  # type: ignore[arg-type]
    sock.listen(128)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Gate:
    """Holds a request within the application: `entered()` waits until it is there, `open()` lets it go on."""

    def __init__(self) -> None:
        self._entered, self.enter = os.pipe()
        self.leave, self._open = os.pipe()

    @property
    def fds(self) -> tuple[int, int]:
        """What the worker inherits."""
        return self.enter, self.leave

    @property
    def environ(self) -> dict[str, str]:
        """What tells the application of it."""
        return {"GATE": f"{self.enter},{self.leave}"}

    def entered(self) -> None:
        ready, _, _ = select.select([self._entered], [], [], PATIENCE)
        assert ready, "the request did not reach the application"
        os.read(self._entered, 1)

    def open(self) -> None:
        os.write(self._open, b".")

    def close(self) -> None:
        for fd in (self._entered, self.enter, self.leave, self._open):
            os.close(fd)


class Served:
    """A running worker; `log` collects what it wrote to stderr."""

    def __init__(self, process: subprocess.Popen[bytes], listener: socket.socket) -> None:
        self.process = process
        self.listener = listener
        self.log = b""
        self._clients: list[http.client.HTTPConnection] = []

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()[:2]
        return host, port

    def connect(self) -> http.client.HTTPConnection:
        """Return a client, which is closed with the worker at the latest: a failed test leaves no socket behind."""
        client = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close the clients and the end of the log, when the process has ended."""
        for client in self._clients:
            client.close()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Make one request on a connection of its own; return the response and its body."""
        with contextlib.closing(self.connect()) as conn:
            conn.request(method, path, body, dict(headers or {}))
            response = conn.getresponse()
            return response, response.read()

    def raw(self, data: bytes) -> bytes:
        """Send bytes and return all that comes until the other side closes."""
        with socket.create_connection(self.address, PATIENCE) as sock:
            sock.sendall(data)
            received = b""
            while part := sock.recv(65536):
                received += part
            return received

    def await_line(self, text: str) -> None:
        """Wait until a line with `text` in it was logged."""
        assert self.process.stderr is not None
        while text.encode() not in self.log:
            ready, _, _ = select.select([self.process.stderr], [], [], PATIENCE)
            part = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            assert part, f"no {text!r} in the log: {self.log.decode()}"
            self.log += part

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end and return the exit status."""
        assert self.process.stderr is not None
        status = self.process.wait(PATIENCE)
        while part := os.read(self.process.stderr.fileno(), 65536):
            self.log += part
        return status


def start(
    listener: socket.socket,
    words: Sequence[str],
    *,
    folder: Path,
    fds: Sequence[int] = (),
    environ: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> Served:
    """Start a worker on `listener`; a request may be sent at once, since the socket queues it."""
    process = subprocess.Popen(
        [COMMAND, "--fd", str(listener.fileno()), *words],
        cwd=folder,
        env={**os.environ, **(environ or {})},
        pass_fds=(listener.fileno(), *fds),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )
    return Served(process, listener)


@contextlib.contextmanager
def serving(
    words: Sequence[str],
    *,
    folder: Path,
    gate: Gate | None = None,
    environ: Mapping[str, str] | None = None,
    listener: socket.socket | None = None,
) -> Iterator[Served]:
    """Serve for the time of a `with`; ends by force what has not ended in it."""
    own = listener is None
    sock = listener or bound()
    extra = {**(gate.environ if gate else {}), **(environ or {})}
    served = start(sock, words, folder=folder, fds=gate.fds if gate else (), environ=extra)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.process.wait(PATIENCE)
        served.close()
        if own:
            sock.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of the error."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("forkserve-worker: error: ")]
        assert len(lines) == 1, self.stderr
        return lines[0].removeprefix("forkserve-worker: error: ")


def run_worker(*words: str, folder: Path, fds: Sequence[int] = (), environ: Mapping[str, str] | None = None) -> Outcome:
    """Run the command to its end, for what must not serve."""
    done = subprocess.run(
        [COMMAND, *words],
        cwd=folder,
        env={**os.environ, **(environ or {})},
        pass_fds=tuple(fds),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
