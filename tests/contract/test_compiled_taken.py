"""The shortcuts of the compiled part are taken where they may be, and where they may not, Python's way is gone."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from forkserve.serving.native import hot
from tests.contract.test_compiled import worker_of
from tests.support.serving import PATIENCE, Gate, Served, serving

FOLDER = Path(__file__).parent
TIMES = 8

pytestmark = pytest.mark.skipif(hot is None, reason="forkserve goes without its compiled part here")
each_backend = pytest.mark.parametrize("backend", ["sync", "threads", "gevent", "asgi"])


def ask(conn: HTTPConnection, path: str, **headers: str) -> bytes:
    conn.request("GET", path, headers={"Host": "a", **headers})
    response = conn.getresponse()
    body = response.read()
    assert response.status == 200
    return body


@contextlib.contextmanager
def connected(worker: Served) -> Iterator[HTTPConnection]:
    with contextlib.closing(HTTPConnection(*worker.address, timeout=PATIENCE)) as conn:
        yield conn


def taken_by(conn: HTTPConnection) -> dict[str, int]:
    return dict(json.loads(ask(conn, "/taken")))


@each_backend
def test_what_comes_again_takes_every_shortcut(backend: str, tmp_path: Path) -> None:
    words = ["--access-log", str(tmp_path / "log"), "--access-log-format", "%(s)s"]
    path = "/hello" if backend == "asgi" else "/promised"
    with worker_of(backend, *words, pure=False) as worker, connected(worker) as conn:
        for _ in range(4):
            ask(conn, path)
        before = taken_by(conn)
        for _ in range(TIMES):
            ask(conn, path)
        after = taken_by(conn)
    for name in ("known_head", "known_environ", "start", "answer", "reply"):
        assert after[name] - before[name] >= TIMES, name
    # A second may have begun meanwhile.
    assert after["log_line"] - before["log_line"] >= TIMES - 2


@each_backend
def test_what_never_came_before_is_read_by_the_shortcut(backend: str) -> None:
    with worker_of(backend, pure=False) as worker, connected(worker) as conn:
        for number in range(4):
            ask(conn, "/taken", Cookie=f"a={number}")
        before = taken_by(conn)
        for number in range(TIMES):
            ask(conn, f"/taken?{number}", Cookie=f"b={number}")
        after = taken_by(conn)
    for name in ("new_head", "new_environ", "start", "answer", "reply"):
        assert after[name] - before[name] >= TIMES, name


@each_backend
def test_in_python_none_is_taken(backend: str) -> None:
    with worker_of(backend, pure=True) as worker, connected(worker) as conn:
        assert taken_by(conn) == {}


@each_backend
def test_an_answer_for_which_the_connection_ends_takes_no_shortcut(backend: str) -> None:
    path = "/hello" if backend == "asgi" else "/promised"
    with worker_of(backend, pure=False) as worker:
        with connected(worker) as conn:
            before = taken_by(conn)
        for _ in range(TIMES):
            with connected(worker) as conn:
                ask(conn, path, Connection="close")
        with connected(worker) as conn:
            after = taken_by(conn)
    assert after["answer"] - before["answer"] <= 1
    assert after["reply"] - before["reply"] <= 1


@pytest.mark.parametrize("pure", [False, True])
def test_forwarded_counts_under_asgi_where_it_is_agreed(pure: bool) -> None:
    with worker_of("asgi", "--forwarded-style", "forwarded", pure=pure) as worker, connected(worker) as conn:
        for number in range(1, TIMES):
            fields = {"Forwarded": f'for="[2001:db8::{number}]:4711";proto=https', "Cookie": f"a={number}"}
            scope = json.loads(ask(conn, f"/show?{number}", **fields))
            assert (scope["client"], scope["scheme"]) == ([f"2001:db8::{number}", 4711], "https")
        assert json.loads(ask(conn, "/show"))["client"][0] == "127.0.0.1"


@pytest.mark.parametrize("pure", [False, True])
def test_a_client_that_has_closed_its_side_is_closed_after_its_answer(pure: bool) -> None:
    gate = Gate()
    request = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    words = ["--backend", "threads", "--threads", "2", "--keep-alive", "60", "served_app:wsgi"]
    environ = {"FORKSERVE_PURE": "1" if pure else ""}
    with (
        serving(words, folder=FOLDER, gate=gate, environ=environ) as worker,
        socket.create_connection(worker.address, PATIENCE) as sock,
    ):
        for _ in range(4):
            sock.sendall(request)
            gate.entered()
            gate.open()
            assert sock.recv(65536).endswith(b"slow")
        sock.sendall(request)
        gate.entered()
        sock.shutdown(socket.SHUT_WR)
        # The loop has seen that by the time it has answered another client.
        for _ in range(2):
            assert worker.request("GET", "/")[1] == b"hello"
        gate.open()
        received = b""
        while part := sock.recv(65536):
            received += part
        assert received.endswith(b"slow")
    gate.close()


@pytest.mark.parametrize("pure", [False, True])
def test_a_line_of_the_access_log_has_the_second_of_its_request(pure: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["--access-log", str(log), "--access-log-format", "%(t)s"]
    with worker_of("sync", *words, pure=pure) as worker, connected(worker) as conn:
        for _ in range(3):
            ask(conn, "/promised")
        # time(2) may be a tick of the kernel behind the clock that Python reads (vdso(7)).
        later = int(time.time()) + 1.1
        while time.time() < later:
            select.select([], [], [], 0.02)
        ask(conn, "/promised")
    lines = log.read_text().splitlines()
    assert len(lines) == 4
    assert lines[-1] > lines[0]


@pytest.mark.parametrize("pure", [False, True])
def test_a_task_that_waits_beside_an_answer_is_told_of_its_end(pure: bool) -> None:
    with worker_of("asgi", pure=pure) as worker, connected(worker) as conn:
        for _ in range(TIMES):
            assert ask(conn, "/waits_beside") == b"answered"
        deadline = time.monotonic() + PATIENCE
        while len(told := json.loads(ask(conn, "/told"))) < TIMES:
            assert time.monotonic() < deadline
    assert told == ["http.disconnect"] * TIMES
