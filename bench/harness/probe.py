"""One HTTP request and what became of it.

The harness parses answers itself, so that it sees what a lenient client would mend.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from enum import StrEnum

from bench.harness.target import HOST, Launch

__all__ = ["NUMBER", "Answer", "Outcome", "Request", "ask", "complete", "connect", "judge", "parse_head"]

NUMBER = "{n}"
"""Where this stands in a path or in a header's value, each request has another number."""


class Outcome(StrEnum):
    """What a request came to.

    STALE: a kept connection was closed before any byte of the answer (a client may ask again).
    """

    OK = "ok"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed without an answer"
    CUT = "cut off in the answer"
    TIMEOUT = "no answer in time"
    STATUS = "wrong status"
    BODY = "wrong body"
    STALE = "kept connection was closed"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and the answer that counts as right: status 200 and, unless None, exactly this body.

    With NUMBER in the path or in a header no two requests of a load are alike.
    """

    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    expect: bytes | None = b"Hello, World!"

    @property
    def varies(self) -> bool:
        """Say whether each request is to be another one."""
        return NUMBER in self.path or any(NUMBER in value for _, value in self.headers)

    def head(self, *, close: bool = False) -> str:
        """Return the head with NUMBER still in its places."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        if close:
            lines.append("Connection: close")
        return "\r\n".join(lines) + "\r\n\r\n"

    def encode(self, number: int = 0, *, close: bool = False) -> bytes:
        """Return the bytes of the request, those of this number where requests vary."""
        return self.head(close=close).replace(NUMBER, str(number)).encode() + self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """`at` is when the request was sent, `took` how long its answer was under way: seconds on the monotonic clock."""

    outcome: Outcome
    status: int = 0
    body: bytes = b""
    at: float = 0.0
    took: float = 0.0
    client: int = 0
    size: int = 0


@dataclass(slots=True)
class Head:
    """The parts of a response head that framing needs.

    `length` is None when the end of the connection ends the body.
    """

    status: int = 0
    length: int | None = None
    chunked: bool = False
    close: bool = False
    fields: dict[str, str] = field(default_factory=dict)


def parse_head(data: bytes) -> Head:
    """Read a response head (RFC 9112 section 4 and 6.3); raises ValueError when it is not one."""
    lines = data.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP/1 answer: {lines[0][:40]!r}")
    head = Head(status=int(rest[:3]))
    for line in lines[1:]:
        if line:
            name, _, value = line.partition(":")
            head.fields[name.strip().lower()] = value.strip()
    head.chunked = "chunked" in head.fields.get("transfer-encoding", "").lower()
    if not head.chunked and "content-length" in head.fields:
        head.length = int(head.fields["content-length"])
    connection = head.fields.get("connection", "").lower()
    head.close = "close" in connection or (version == "HTTP/1.0" and "keep-alive" not in connection)
    return head


def judge(request: Request, status: int, body: bytes) -> Outcome:
    """Say whether an answer is the right one."""
    if status != 200:
        return Outcome.STATUS
    return Outcome.OK if request.expect is None or body == request.expect else Outcome.BODY


def decode_chunks(data: bytes) -> bytes:
    """Join the chunks of a whole chunked body; raises ValueError when it is cut off."""
    body = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not found or len(data) < length:
            raise ValueError("chunks cut off")
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2 :]


def connect(launch: Launch, timeout: float) -> socket.socket:
    """Open a connection to the server; raises OSError."""
    if launch.unix:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect(launch.unix)
        return client
    return socket.create_connection((HOST, launch.port), timeout)


def complete(data: bytes) -> bool:
    """Say whether a whole answer is there; only the end of the connection can tell when nothing frames it."""
    text, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return False
    head = parse_head(text)
    return rest.endswith(b"0\r\n\r\n") if head.chunked else head.length is not None and len(rest) >= head.length


def ask(launch: Launch, request: Request, timeout: float) -> Answer:
    """Send one request on a connection of its own and read the whole answer."""
    data = b""
    try:
        with connect(launch, timeout) as client:
            client.sendall(request.encode())
            while not complete(data) and (block := client.recv(1 << 20)):
                data += block
    except (ConnectionRefusedError, FileNotFoundError):
        return Answer(Outcome.REFUSED)
    except TimeoutError:
        return Answer(Outcome.TIMEOUT)
    except OSError:
        return Answer(Outcome.RESET)
    except ValueError:
        return Answer(Outcome.CUT)
    return _understand(request, data)


def _understand(request: Request, data: bytes) -> Answer:
    text, found, rest = data.partition(b"\r\n\r\n")
    try:
        head = parse_head(text)
        body = decode_chunks(rest) if head.chunked else rest
    except ValueError:
        return Answer(Outcome.CUT if data else Outcome.CLOSED)
    if not found or (head.length is not None and len(body) != head.length):
        return Answer(Outcome.CUT, head.status, body)
    return Answer(judge(request, head.status, body), head.status, body, size=len(data))
