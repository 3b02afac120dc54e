"""What a readiness probe over HTTP makes of servers that answer wrongly, slowly, without end or not at all."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import repeat

import pytest

from forkserve.config.probes import probe
from forkserve.supervision.os import probe as asking

PLENTY, LITTLE = 50.0, 4.0
"""Seconds for a probe: most end long before; a busy machine may take a second to accept a connection."""
GOOD = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def serving(parts: Callable[[], Iterator[bytes]], *, closes: bool) -> Iterator[str]:
    """Answer one request by these parts, and close the connection, or keep it open until the client has gone."""
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                for part in parts():
                    connection.sendall(part)
                if not closes:
                    over.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _dripped(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


def _found(url: str, monkeypatch: pytest.MonkeyPatch, limit: float = PLENTY) -> str:
    monkeypatch.setattr(asking, "TIMEOUT", limit)
    monkeypatch.setattr(asking, "ACCEPTED", limit)
    return asking.ask(probe(url), os.getpid()).removeprefix(url)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GOOD + b"\r\n", ""),
        (b"HTTP/1.0 204\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", ""),
        (b"HTTP/1.1 200 " + b"x" * 2000 + b"\r\n\r\n", ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + GOOD, ""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", ": answered 503"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ": answered 101"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", ": answered 404"),
        (b"", ": the connection was closed without an answer"),
        (b"HTTP/1.1 200", ": the connection was closed within an answer"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", ": the connection was closed without an answer"),
        (b"HTTP/1.x 200 OK\r\n\r\n", ": the answer is not HTTP/1"),
        (b"HTTP/2 200 OK\r\n\r\n", ": the answer is not HTTP/1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", ": the answer is not HTTP/1"),
        (b"HTTP/1.1 200OK\r\n\r\n", ": the answer is not HTTP/1"),
        (b"\0\0\x12\4\0\0\0\0\0\n", ": the answer is not HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ": the answer is not HTTP/1"),
    ],
)
def test_the_status_of_the_final_answer_counts(answer: bytes, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: iter([answer]), closes=True) as url:
        assert _found(url, monkeypatch) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (lambda: _dripped(b"HTTP/1.1 200 OK\r\n"), ""),
        (lambda: repeat(b"x" * 4096), ": the answer is not HTTP/1"),
        (lambda: repeat(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n" + b"C: d\r\n" * 1000), ": the answer is not HTTP/1"),
        (lambda: iter([GOOD + b"Content-Length: 1000000000\r\n\r\n", *repeat(b"x" * 65536, 200)]), ""),
        (lambda: iter([GOOD, *repeat(b"A: b\r\n", 10_000)]), ""),
    ],
    ids=["drip", "garbage", "interim without end", "large body", "many headers"],
)
def test_an_answer_without_end_ends_the_probe(
    parts: Callable[[], Iterator[bytes]], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(parts, closes=False) as url:
        assert _found(url, monkeypatch) == expected


@pytest.mark.parametrize("part", [b"HTTP/1.1 2", pytest.param(b"", marks=pytest.mark.slow)])
def test_an_answer_that_does_not_come_is_not_waited_for(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: iter([part]), closes=False) as url:
        assert _found(url, monkeypatch, LITTLE) == ": timed out"
