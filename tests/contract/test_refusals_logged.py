"""The log about what is refused before an application sees it: one line for each, a bounded number of them."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE, Served, serving
from tests.support.tls import make_certificate

FOLDER = Path(__file__).parent
COMPILED = ("sync", False)
KINDS = [COMPILED, ("threads", True), ("gevent", False), ("asgi", True)]
each_kind = pytest.mark.parametrize(("backend", "pure"), KINDS)
FAST = ["--header-timeout", "1.2", "--body-timeout", "1.2", "--max-body", "10", "--limit-request-fields", "3"]


@contextlib.contextmanager
def worker_of(backend: str, pure: bool, *words: str) -> Iterator[Served]:
    app = "asgi_app:app" if backend == "asgi" else "engine_app:app"
    environ = {"FORKSERVE_PURE": "1"} if pure else {}
    with serving(["--backend", backend, *words, app], folder=FOLDER, environ=environ) as worker:
        yield worker
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def refused_of(worker: Served) -> list[str]:
    """The reasons in the log, once the worker has ended."""
    return re.findall(r"INFO forkserve\.engine: client 127\.0\.0\.1:\d+ refused: (.*)", worker.log.decode())


BAD = {
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: \x1b[31m\r\n\r\n": "400, a folded header line",
    b"GET / HTTP/1.1\r\nHost: a\r\nX\x1b[2J: b\r\n\r\n": "400, a control character in a header line",
    b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n": "414, the request line is too long",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n": "431, too many header fields",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n": "413, the body is too large",
    b"GET / HTTP/1.1\r\nHost: a\r\nX": "408, the request did not come in time",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n": "501, a transfer coding other than chunked",
}


@each_kind
def test_a_refused_request_has_a_line_in_both_logs(backend: str, pure: bool, tmp_path: Path) -> None:
    log = tmp_path / "access"
    words = ["--access-log", str(log), "--access-log-format", '%(h)s "%(r)s" %(s)s %(B)s "%(a)s"']
    with worker_of(backend, pure, *FAST, *words) as worker:
        for data, reason in BAD.items():
            assert worker.raw(data).split(b" ")[1] == reason[:3].encode()
    assert refused_of(worker) == list(BAD.values())
    assert b"\x1b" not in worker.log
    lines = log.read_text().splitlines()
    assert [line.split('" ')[1][:3] for line in lines] == [reason[:3] for reason in BAD.values()]
    # Its head was read, that of the others was not.
    assert lines[4].startswith('127.0.0.1 "GET / HTTP/1.1" 413 ')
    assert all(re.fullmatch(r'127\.0\.0\.1 "-" \d+ [1-9]\d* "-"', line) for line in lines[:4] + lines[5:])


def test_a_refused_request_is_an_object_in_an_access_log_of_json(tmp_path: Path) -> None:
    log = tmp_path / "access"
    with worker_of(*COMPILED, "--access-log", str(log), "--access-log-format", "json") as worker:
        worker.raw(b"\r\n\r\n\r\n")
    assert '"method":"","target":"","protocol":"","status":400,' in log.read_text()


@pytest.mark.parametrize(("backend", "pure"), [COMPILED, ("asgi", True)])
def test_a_flood_of_refusals_is_told_in_a_few_lines(backend: str, pure: bool) -> None:
    floods = 60
    with worker_of(backend, pure) as worker:
        for _ in range(floods):
            assert worker.raw(b"\x16\x03\x01 \r\n\r\n").startswith(b"HTTP/1.1 400")
        # Said by the loop, although nobody comes any more.
        worker.await_line(" more clients refused")
    told = len(refused_of(worker))
    assert told < floods
    assert told + sum(int(each) for each in re.findall(rb"and (\d+) more", worker.log)) == floods


@pytest.mark.parametrize(("backend", "pure"), [COMPILED, ("asgi", True)])
def test_a_failed_beginning_of_tls_is_told(backend: str, pure: bool, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    with worker_of(backend, pure, "--certfile", cert, "--keyfile", key) as worker:
        assert worker.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
        # A record of the handshake with another message than its first, which the server answers by an alert.
        worker.raw(b"\x16\x03\x01\0\5\0\0\0\1\0")
        # That is nothing to tell: a balancer looks whether the port is open.
        socket.create_connection(worker.address, PATIENCE).close()
    reasons = refused_of(worker)
    assert reasons[0] == "TLS failed, http request"
    assert [each.partition(", ")[0] for each in reasons] == ["TLS failed"] * 2


@pytest.mark.parametrize("tls", [False, True])
def test_a_bad_proxy_header_is_told(tls: bool, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    words = ["--certfile", cert, "--keyfile", key] if tls else []
    with (
        worker_of(*COMPILED, "--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1", *words) as worker,
        contextlib.suppress(OSError),
    ):
        worker.raw(b"PROXY TCP4 \x1b[31m 1 2 3\r\n")
    assert refused_of(worker) == ["an invalid PROXY header" if tls else "400, an invalid PROXY header"]


def test_a_balancer_that_is_not_trusted_is_told() -> None:
    with (
        worker_of(*COMPILED, "--proxy-protocol", "v1", "--proxy-allow-from", "192.0.2.1") as worker,
        contextlib.suppress(OSError),
    ):
        worker.raw(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
    assert refused_of(worker) == ["--proxy-allow-from does not name its address"]
