"""What one worker does when connections, descriptors or memory are used up, under each way to run the application."""

from __future__ import annotations

import contextlib
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_engine import FOLDER, WORDS, Client, get, one
from tests.support.serving import PATIENCE, Served, serving

WSGI = ("sync", "threads", "gevent")
ALL = (*WSGI, "asgi")


@contextlib.contextmanager
def worker_of(backend: str, *words: str, pure: bool = False) -> Iterator[Served]:
    app = "asgi_app:app" if backend == "asgi" else "engine_app:app"
    environ = {"FORKSERVE_PURE": "1"} if pure else {}
    words = ("--backend", backend, *WORDS.get(backend, []), *words, app)
    with serving(words, folder=FOLDER, environ=environ) as worker:
        yield worker


def status_of(client: Client, request: bytes) -> int:
    client.send(request)
    head, _ = client.response()
    return int(head[9:12])


@pytest.mark.parametrize("backend", ALL)
def test_at_the_cap_the_oldest_idle_connection_makes_room(backend: str) -> None:
    path = "/promised"
    with worker_of(backend, "--max-connections", "3") as worker, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(3):
            clients.append(stack.enter_context(Client(worker)))
            assert status_of(clients[-1], get(path)) == 200
        newcomer = stack.enter_context(Client(worker))
        assert status_of(newcomer, get(path)) == 200
        readable, _, _ = select.select([each.sock for each in clients], [], [], PATIENCE)
        closed = [each for each in clients if each.sock in readable]
        # A thread of the pool that has sent its response may be idle, for the loop, later than one that sent after it.
        assert len(closed) == 1 and closed[0] in (clients if backend == "threads" else clients[:1])
        assert closed[0].rest() == b""
        for client in {*clients, newcomer} - set(closed):
            assert status_of(client, get(path)) == 200


@pytest.mark.parametrize("backend", ALL)
def test_at_the_cap_those_within_a_request_stay_and_others_wait(backend: str) -> None:
    with worker_of(backend, "--max-connections", "2") as worker, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(worker)) for _ in range(4)]
        for client in clients:
            client.send(b"GET /promised HTTP/1.1\r\nHost: a\r\n")
        worker.await_line("accepting is paused: 2 connections are open")
        for client in clients:
            client.send(b"Connection: close\r\n\r\n")
        for client in clients:
            assert client.rest().startswith(b"HTTP/1.1 200 ")


@contextlib.contextmanager
def without_descriptors(worker: Served, client: Client) -> Iterator[None]:
    """Have the application take all that it can get, for a while."""
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    assert status_of(client, get("/hoard")) == 200
    yield
    assert status_of(client, get("/let_go_of_hoard")) == 200


@pytest.mark.parametrize("backend", ALL)
def test_without_descriptors_only_what_needs_one_fails(backend: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"static")
    words = ("--static", f"/static={tmp_path}", "--body-in-memory", "10")
    if backend == "asgi":
        words = words[:2]
    with worker_of(backend, *words) as worker, contextlib.ExitStack() as stack:
        client, other = (stack.enter_context(Client(worker)) for _ in range(2))
        assert status_of(other, get("/promised")) == 200
        with without_descriptors(worker, client):
            assert status_of(other, get("/static/a.txt")) == 500
            # It waits in the queue, until there is room.
            third = stack.enter_context(Client(worker))
            third.send(get("/promised"))
            worker.await_line("accepting is paused")
            assert status_of(other, get("/kept_file")) == 500
            if backend != "asgi":
                assert status_of(other, get("/echo", "Content-Length: 20", method="POST") + b"x" * 20) == 503
        assert third.response()[1] == b"hello"
        assert one(worker, "/static/a.txt")[1] == b"static"
        assert one(worker, "/promised")[1] == b"hello"


@pytest.mark.parametrize("backend", ALL)
def test_a_worker_without_descriptors_drains(backend: str) -> None:
    """It needs none at its end, which would come by SIGKILL otherwise, with all that is in flight."""
    with worker_of(backend) as worker, Client(worker) as client:
        resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        assert status_of(client, get("/hoard")) == 200
        worker.process.send_signal(signal.SIGTERM)
        worker.await_line("drained, ending")
        assert worker.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("backend", ALL)
def test_unfinished_heads_are_bounded_together(backend: str) -> None:
    words = ("--request-memory", "200k", "--limit-request-field-size", "0", "--max-connections", "0")
    with worker_of(backend, *words) as worker, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(worker)) for _ in range(12)]
        for client in clients:
            client.send(b"GET /promised HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 40_000)
        small = stack.enter_context(Client(worker))
        small.send(b"GET /promised HTTP/1.1\r\nHost: a\r\n")
        worker.await_line("--request-memory")
        refused = [client for client in clients if client.sock in readable(clients)]
        assert refused
        assert all(client.rest().startswith(b"HTTP/1.1 503 ") for client in refused)
        for client in (small, *(each for each in clients if each not in refused)):
            client.send(b"\r\n\r\n")
            assert client.response()[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("backend", WSGI)
def test_bodies_go_to_files_when_there_are_many(backend: str) -> None:
    with worker_of(backend, "--request-memory", "1M") as worker, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(worker)) for _ in range(20)]
        for client in clients:
            client.send(get("/echo", "Content-Length: 200000", method="POST") + b"b" * 150_000)
        worker.await_line("bodies go to files now, 0 requests are refused")
        for client in clients:
            client.send(b"b" * 50_000)
            assert client.response()[1] == b"b" * 200_000


def readable(clients: list[Client]) -> list[socket.socket]:
    """Wait until some have an answer, and no more get one for a moment."""
    sockets = [client.sock for client in clients]
    found = select.select(sockets, [], [], PATIENCE)[0]
    while len(more := select.select(sockets, [], [], 0)[0]) > len(found):
        found = more
    return found


def pushed(sock: socket.socket, block: bytes) -> int:
    """Send the same block again and again until that fails; returns how many bytes went out."""
    total, until = 0, time.monotonic() + PATIENCE
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while time.monotonic() < until and total < ENOUGH:
            total += sock.send(block)
    return total


ENOUGH = 1 << 30
SOME = 64 << 20
"""More than the kernel keeps for both ends of a connection."""


@pytest.mark.parametrize("backend", ["sync", "asgi"])
@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n", 414),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1 << 40), 413),
    ],
    ids=["line", "chunk", "length"],
)
def test_not_much_is_read_from_a_client_that_was_refused(backend: str, begin: bytes, status: int) -> None:
    with worker_of(backend) as worker, Client(worker) as client:
        client.send(begin)
        assert client.response()[0].startswith(b"HTTP/1.1 %d " % status)
        assert pushed(client.sock, b"a" * 65536) < SOME


@pytest.mark.parametrize("pure", [False, True], ids=["compiled", "pure"])
def test_not_much_is_read_of_a_body_that_the_application_left(pure: bool) -> None:
    with worker_of("asgi", pure=pure) as worker, Client(worker) as client:
        client.send(get("/hello", f"Content-Length: {1 << 30}", method="POST"))
        assert client.response()[0].startswith(b"HTTP/1.1 200 ")
        assert pushed(client.sock, b"a" * 65536) < SOME


def test_a_small_body_that_the_application_left_keeps_its_connection() -> None:
    with worker_of("asgi") as worker, Client(worker) as client:
        for _ in range(4):
            client.send(get("/hello", "Content-Length: 200000", method="POST"))
            assert client.response()[0].startswith(b"HTTP/1.1 200 ")
            client.send(b"b" * 200_000)


def test_not_much_is_read_from_a_websocket_that_was_closed_for_a_violation() -> None:
    opening = get("/ws", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    with worker_of("asgi", "--ws-max-size", "1000") as worker, Client(worker) as client:
        client.send(opening)
        client.until(b"\r\n\r\n")
        client.send(b"\x82\xff" + (300 << 20).to_bytes(8) + b"\0\0\0\0")
        client.until((1009).to_bytes(2))
        assert pushed(client.sock, b"a" * 65536) < SOME


@pytest.mark.parametrize("backend", ["threads", "asgi"])
@pytest.mark.parametrize(
    "half", [b"GET /promised HTTP/1.1\r\nHo", get("/echo", "Content-Length: 5", method="POST") + b"he"],
    ids=["head", "body"],
)  # fmt: skip
def test_half_a_request_behind_which_its_client_is_silent_for_good_is_not_waited_for(backend: str, half: bytes) -> None:
    with worker_of(backend, "--header-timeout", "0", "--body-timeout", "0") as worker, Client(worker) as client:
        client.send(get("/promised") + half)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.response()[1] == b"hello"
        assert client.rest() == b""
