"""The compiled hot path is an exact shortcut: what comes again and again is answered as Python answers it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sysconfig
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE, Served, serving

FOLDER = Path(__file__).parent
TIMES = 7
"""How often each request is made: the ready queue knows a head by its third time, an answer by its second."""
WSGI = [
    "facts", "facts?a=b", "echo", "lines", "stream", "closed", "empty", "large", "several", "write", "shorter",
    "longer", "raising", "late", "retracted", "twice", "text", "nonsense", "never_started", "injected", "hop",
    "leaves", "forks", "file", "file?20", "reader", "refuses", "promised", "promised_less", "pair",
]  # fmt: skip
ASGI = [
    "hello", "large", "show", "show?a=b", "spoil", "show", "echo", "stream_back", "ignore_body", "after_reply", "parts",
    "trailers", "file", "descriptor", "long", "short", "empty", "raises", "raises_late", "returns_early", "wrong",
    "tasks", "cancel_scope_first", "sent_by_tasks", "promised",
]  # fmt: skip
PLAIN: dict[str, str] = {}
HEADERS: list[dict[str, str]] = [
    PLAIN,
    {"Connection": "close"},
    {"Cookie": "a=b; c=d", "Accept-Language": "de"},
    {"Upgrade": "h2c", "Connection": "Upgrade"},
    {"X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4"},
    {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "b:8443"},
    {"X-Forwarded-Prefix": "/a"},
]
Answer = tuple[int, list[tuple[str, str]], bytes]


def test_the_compiled_part_is_there_where_tests_are_to_be_complete() -> None:
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if os.environ.get("FORKSERVE_TESTS_REQUIRE_ALL") or (shutil.which("cc") and headers.exists()):
        assert find_spec("forkserve.serving.native._hot") is not None
    else:
        pytest.skip("there is no compiler")


@contextlib.contextmanager
def worker_of(backend: str, *words: str, pure: bool) -> Iterator[Served]:
    app = "asgi_app:app" if backend == "asgi" else "engine_app:app"
    environ = {"FORKSERVE_PURE": "1" if pure else ""}
    with serving(["--backend", backend, *words, app], folder=FOLDER, environ=environ) as worker:
        yield worker
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def ask(conn: HTTPConnection, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer | str:
    """One answer, or how it failed to come."""
    try:
        conn.request(method, path, body, {"Host": "a", **headers})
        response: HTTPResponse = conn.getresponse()
        read = response.read()
    except (OSError, ValueError) as error:
        conn.close()
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - http.client's own, of a response that broke off
        conn.close()
        return type(error).__name__
    fields = [(name, value) for name, value in response.getheaders() if name != "Date"]
    return response.status, fields, re.sub(rb'_PORT": "\d+"|\["127.0.0.1", \d+\]|0x[0-9a-f]+', b"", read)


def all_answers(worker: Served, paths: list[str]) -> list[object]:
    answers: list[object] = []
    for method in ("GET", "HEAD", "POST"):
        for path in paths:
            for headers in HEADERS if path in ("facts", "show", "promised", "hello") else HEADERS[:1]:
                body = b"hello" if method == "POST" else None
                with contextlib.closing(HTTPConnection(*worker.address, timeout=PATIENCE)) as conn:
                    each = [ask(conn, method, f"/{path}", headers, body) for _ in range(TIMES)]
                answers.append((method, path, headers, each))
    return answers


def lines_of(log: bytes) -> list[str]:
    """The log without what differs between two processes."""
    text = re.sub(r"\d\d:\d\d:\d\d[.,]?\d*|\[\d+\]|pid \d+|:\d{4,5}\b|0x[0-9a-f]+", "", log.decode())
    return [line for line in text.splitlines() if "ready" not in line and "drain" not in line]


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent", "asgi"])
def test_both_ways_answer_alike_and_log_alike(backend: str) -> None:
    found: list[tuple[list[object], list[str]]] = []
    for pure in (True, False):
        with worker_of(backend, pure=pure) as worker:
            answers = all_answers(worker, ASGI if backend == "asgi" else WSGI)
        found.append((answers, lines_of(worker.log)))
    (python, python_log), (compiled, compiled_log) = found
    for ours, theirs in zip(compiled, python, strict=True):
        assert ours == theirs
    assert compiled_log == python_log


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize(("backend", "path"), [("sync", "/hangs"), ("sync", "/spins"), ("asgi", "/slow")])
def test_a_request_that_is_known_is_interrupted_like_any_other(backend: str, path: str, pure: bool) -> None:
    with (
        worker_of(backend, "--timeout", "0.3", pure=pure) as worker,
        contextlib.closing(HTTPConnection(*worker.address, timeout=PATIENCE)) as conn,
    ):
        for _ in range(5):
            answer = ask(conn, "GET", path, PLAIN, None)
            assert isinstance(answer, tuple)
            assert answer[0] == 504
        worker.await_line("takes too long")


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent", "asgi"])
def test_a_known_head_that_comes_in_pieces_or_with_another_behind_it_is_the_same_request(backend: str) -> None:
    raw = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"hello" if backend == "asgi" else b"several")
    end = b"hello" if backend == "asgi" else b"abc"
    with (
        worker_of(backend, pure=False) as worker,
        socket.create_connection(worker.address, PATIENCE) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = 0
        received = b""
        for pieces in ([raw], [raw], [raw], [raw], [raw[:9], raw[9:]], [raw + raw], [raw + raw[:20], raw[20:]], [raw]):
            for piece in pieces:
                sock.sendall(piece)
            count += b"".join(pieces).count(b"GET")
            while received.count(end) < count:
                part = sock.recv(65536)
                assert part
                received += part
        assert received.count(b"HTTP/1.1 200 OK\r\n") == count
