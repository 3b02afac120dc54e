"""A client that works on the wire: it sends raw bytes, reads responses strictly, and waits for a limited time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

__all__ = ["ClientConnection", "Failed", "Fault", "Response", "expect"]


class Fault(Enum):
    """The kind of a failure, as far as it matters for the choice of a backend."""

    SMUGGLING = "serves requests whose end is in doubt"
    LENIENT = "serves what is not HTTP"
    TRUNCATION = "gives applications a part of a body as the whole"
    OTHER = "other"


class Failed(Exception):
    """A check that failed; says what was seen instead."""

    def __init__(self, seen: str, fault: Fault = Fault.OTHER) -> None:
        super().__init__(seen)
        self.fault = fault


def expect(condition: object, otherwise: str) -> None:
    """Raise Failed unless `condition` is true."""
    if not condition:
        raise Failed(otherwise)


@dataclass(frozen=True, slots=True)
class Response:
    """One final response, with the interim statuses before it. Field names are in lower case."""

    status: int
    version: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    interim: tuple[int, ...] = ()

    def field(self, name: str) -> str | None:
        """Return the value of a field, None when it is absent."""
        return next((value for key, value in self.fields if key == name), None)


class ClientConnection:
    """One connection; every wait ends with Failed after `patience` seconds."""

    def __init__(self, address: tuple[str, int], *, patience: float = 10.0, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(patience)
        self._buffer = b""
        self._connect(address)

    def _connect(self, address: tuple[str, int]) -> None:
        try:
            self.sock.connect(address)
        except OSError as error:
            self.sock.close()
            raise Failed(f"no connection: {error}") from None

    def __enter__(self) -> ClientConnection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of it; a closed connection shows at the next read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def half_close(self) -> None:
        """Close the sending side."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def closed(self) -> bool:
        """Wait for the other side; True if it closes, False if it sends more."""
        return not self._buffer and not self._receive()

    def rest(self) -> bytes:
        """Return everything until the other side closes."""
        while self._receive():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def exactly(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        while len(self._buffer) < size:
            expect(self._receive(), f"closed after {len(self._buffer)} of {size} bytes")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def response(self, method: str = "GET") -> Response:
        """Read the next final response, to a request with that method."""
        interim: list[int] = []
        while True:
            status, version, fields = self._head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        body = b"".join(self._body(method, status, dict(fields)))
        return Response(status, version, fields, body, tuple(interim))

    def interim(self) -> int:
        """Read one interim response and return its status; raises Failed for a final one."""
        status, _, _ = self._head()
        expect(status < 200, f"status {status} before the body was sent")
        return status

    def _receive(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise Failed("no answer in time") from None
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            expect(
                self._receive(), "closed before an answer" if not self._buffer else f"cut off: {self._buffer[:80]!r}"
            )
        data, _, self._buffer = self._buffer.partition(end)
        return data

    def _head(self) -> tuple[int, str, tuple[tuple[str, str], ...]]:
        line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = line.partition(" ")
        code = rest[:3]
        expect(version in ("HTTP/1.0", "HTTP/1.1") and code.isdigit(), f"no status line: {line[:80]!r}")
        pairs = [each.partition(":") for each in lines]
        return int(code), version, tuple((name.lower(), value.strip()) for name, _, value in pairs)

    def _body(self, method: str, status: int, fields: dict[str, str]) -> Iterator[bytes]:
        """Yield the pieces of a body by its framing (RFC 9112 section 6.3)."""
        if method == "HEAD" or status in (101, 204, 304):
            return
        if "chunked" in fields.get("transfer-encoding", "").lower():
            while size := int(self._until(b"\r\n").partition(b";")[0], 16):
                yield self.exactly(size)
                expect(self.exactly(2) == b"\r\n", "a chunk does not end where it says")
            while self._until(b"\r\n"):
                pass
        elif "content-length" in fields:
            yield self.exactly(int(fields["content-length"]))
        else:
            yield self.rest()
