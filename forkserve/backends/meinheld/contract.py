"""The contract of a meinheld build, checked before it is installed: each check is one way in which the original fails.

Rules: the server runs under the temporary environment's interpreter, in the runner of `--python`; the checks run
here. After every check the process must be alive and answer. The first failure ends the run: `ContractError`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from forkserve.backends.meinheld import contract_app
from forkserve.backends.other_python.launch import FOLDER
from forkserve.errors import BackendError
from forkserve.wording import signal_name

__all__ = ["CHECKS", "ContractError", "check_build", "serving"]

PATIENCE = 20.0  # seconds for any one answer
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class ContractError(BackendError):
    """A build that fails a check; it is not installed."""


class Client:
    """One connection, which sends raw bytes and reads whole responses."""

    def __init__(self, address: tuple[str, int], source: str = "127.0.0.1", receive: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.bind((source, 0))
        self.sock.connect(address)
        self.file: IO[bytes] = self.sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> Client:
        """Send all of `data`."""
        self.sock.sendall(data)
        return self

    def answer(self, *, body: bool = True) -> tuple[int, bytes]:
        """Read one response; `body=False` for one to HEAD. Raises OSError or ContractError if none comes."""
        line = self.file.readline().split()
        if len(line) < 2:
            raise ContractError("the connection was closed without an answer")
        fields: dict[bytes, bytes] = {}
        while (field := self.file.readline().strip()) != b"":
            name, _, value = field.partition(b":")
            fields[name.lower()] = value.strip()
        if not body:
            return int(line[1]), b""
        if fields.get(b"transfer-encoding") == b"chunked":
            return int(line[1]), b"".join(self._chunks())
        length = fields.get(b"content-length")
        return int(line[1]), self.file.read(-1 if length is None else int(length))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.file.readline() or b"0", 16):
            yield self.file.read(size)
            self.file.readline()
        self.file.readline()


def expect(what: str, got: object, wanted: object) -> None:
    """Raise ContractError unless both are equal."""
    if got != wanted:
        raise ContractError(f"{what}: got {got!r:.80}, expected {wanted!r:.80}")


def expect_big(what: str, body: bytes) -> None:
    """Raise ContractError unless `body` is the big body, byte for byte."""
    expect(f"{what}, length", len(body), contract_app.BIG)
    wanted = hashlib.sha256()
    for piece in contract_app.pieces(contract_app.BIG, 1000, 1_000_000):
        wanted.update(piece)
    expect(f"{what}, digest", hashlib.sha256(body).hexdigest(), wanted.hexdigest())


def big_stream(address: tuple[str, int]) -> None:
    """A stream of 13 MB is whole."""
    with Client(address) as client:
        expect_big("chunked stream", client.send(GET.replace(b"/", b"/chunked", 1)).answer()[1])
        expect_big("sized stream", client.send(GET.replace(b"/", b"/sized", 1)).answer()[1])


def slow_reader(address: tuple[str, int]) -> None:
    """A client that does not read holds up nobody, and gets all, on a kept-alive connection too."""
    with Client(address, receive=4096) as slow, Client(address) as other:
        for path in (b"/chunked", b"/sized"):
            slow.send(GET.replace(b"/", path, 1))
            expect("another client meanwhile", other.send(GET).answer()[0], 200)
            expect_big(f"slow reader of {path.decode()}", slow.answer()[1])


def trailer(address: tuple[str, int]) -> None:
    """A chunked body with a trailer is read."""
    with Client(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n")
        status, body = client.answer()
        expect("trailer", (status, body.split()[2:3]), (200, [b"3"]))


def upgrade(address: tuple[str, int]) -> None:
    """Upgrade: h2c is ignored, CONNECT refused, and the next request is answered."""
    with Client(address) as client:
        client.send(GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n")
        expect("Upgrade: h2c", client.answer()[0], 200)
        expect("request after Upgrade", client.send(GET).answer()[0], 200)
    with Client(address) as client:
        expect("CONNECT", client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").answer()[0], 400)


def head(address: tuple[str, int]) -> None:
    """HEAD has no body, so that the next answer on the connection is where it must be."""
    with Client(address) as client:
        for path in (b"/", b"/chunked"):
            client.send(GET.replace(b"GET /", b"HEAD " + path, 1))
            expect("HEAD", client.answer(body=False)[0], 200)
            expect("GET after HEAD", client.send(GET).answer()[0], 200)


def pipelined_posts(address: tuple[str, int]) -> None:
    """Two POSTs in one packet are both answered."""
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
    with Client(address) as client:
        client.send(post % (3, b"abc") + post % (5, b"defgh"))
        for size in (b"3", b"5"):
            status, body = client.answer()
            expect("pipelined POST", (status, body.split()[2:3]), (200, [size]))


def deep_pipeline(address: tuple[str, int]) -> None:
    """A thousand requests in one packet: some are answered, the rest refused; nothing overflows."""
    with Client(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        for _ in range(60):
            expect("pipelined GET", client.answer()[0], 200)


def client_addresses(address: tuple[str, int]) -> None:
    """REMOTE_ADDR is that of the connection, not of the last one accepted."""
    with Client(address, "127.0.0.2") as one, Client(address, "127.0.0.3") as two:
        for client, source in ((one, b"127.0.0.2"), (two, b"127.0.0.3"), (one, b"127.0.0.2"), (two, b"127.0.0.3")):
            expect("REMOTE_ADDR", client.send(GET).answer()[1].split()[1:2], [source])


def unknown_coding(address: tuple[str, int]) -> None:
    """A body in an unknown coding is refused, not served as the next request."""
    with Client(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" + GET)
        expect("unknown Transfer-Encoding", client.answer()[0], 400)
        with contextlib.suppress(ConnectionResetError):
            expect("after it", client.file.read(1), b"")


def long_header(address: tuple[str, int]) -> None:
    """A header over the limit that comes in two packets is refused."""
    with Client(address) as client, Client(address) as other:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 5000)
        expect("meanwhile", other.send(GET).answer()[0], 200)
        expect("long header", client.send(b"y" * 5000 + b"\r\n\r\n").answer()[0], 400)


def upload(address: tuple[str, int]) -> None:
    """5 MB sent are 5 MB read."""
    body = b"".join(contract_app.pieces(5_000_003, 1000, 70_000))
    with Client(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        expect("upload", client.answer()[1].split()[-1:], [hashlib.sha256(body).hexdigest().encode()])


def broken_response(address: tuple[str, int]) -> None:
    """A response broken off closes its connection."""
    with Client(address) as client:
        expect("broken response", client.send(GET.replace(b"/", b"/broken", 1)).answer()[1], b"x")


CHECKS: tuple[Callable[[tuple[str, int]], None], ...] = (
    big_stream,
    slow_reader,
    trailer,
    upgrade,
    head,
    pipelined_posts,
    deep_pipeline,
    client_addresses,
    unknown_coding,
    long_header,
    upload,
    broken_response,
)


@contextlib.contextmanager
def serving(python: Path, errors: IO[bytes]) -> Iterator[tuple[tuple[str, int], subprocess.Popen[bytes]]]:
    """Serve the contract's application with `python`'s meinheld; yields the address and the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        fd = listener.fileno()
        application = f"{Path(contract_app.__file__)}:app"
        command = [str(python), str(FOLDER), "--backend", "meinheld", "--fd", str(fd), "--keep-alive", "5", application]
        environment = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "PYTHONPATH")}
        process = subprocess.Popen(command, pass_fds=[fd], stderr=errors, env=environment)
        try:
            yield address, process
        finally:
            process.kill()
            process.wait()


def check_build(python: Path, errors: IO[bytes]) -> int:
    """Run every check against the meinheld installed for `python`; returns how many. Raises ContractError."""
    with serving(python, errors) as (address, process):
        for check in CHECKS:
            name = check.__name__.replace("_", " ")
            try:
                check(address)
                with Client(address) as client:
                    expect("the next request", client.send(GET).answer()[0], 200)
            except ContractError as error:
                raise ContractError(f"{name}: {error}{_death(process)}") from None
            except (OSError, ValueError) as error:
                raise ContractError(f"{name}: {error or type(error).__name__}{_death(process)}") from None
        process.send_signal(signal.SIGTERM)
        try:
            expect("exit status after SIGTERM", process.wait(PATIENCE), 0)
        except subprocess.TimeoutExpired:
            raise ContractError("SIGTERM did not end it") from None
    return len(CHECKS)


def _death(process: subprocess.Popen[bytes]) -> str:
    """Say how the server died, if it did."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = process.wait(1.0)
        return f" (the server died of {signal_name(-status)})" if status < 0 else f" (exit status {status})"
    return ""
