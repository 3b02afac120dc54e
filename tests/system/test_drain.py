"""A stop that loses nothing: what waits in the kernel's queue is answered, and each stage of it can be seen."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient
from tests.support.forkserving import Forkserve, eventually, pause, running
from tests.support.serving import PATIENCE

QUEUED = 200

WSGI = """
import os, select
def app(environ, start):
    if environ["PATH_INFO"] == "/wait":
        go = os.open("go", os.O_RDONLY)
        while not select.select([go], [], [], 0.01)[0]:
            pass  # not in one call: a signal that comes just before a system call that blocks waits for its end
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
ASGI = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    elif scope["path"] in ("/10", "/100", "/endless"):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(10**9 if scope["path"] == "/endless" else int(scope["path"][1:])):
            await send({"type": "http.response.body", "body": b"data: x\\n\\n", "more_body": True})
            await asyncio.sleep(0.1)
        await send({"type": "http.response.body"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""
STACK = """
[socket:web]
{socket}
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) -k {backend} site_d:app
copy_env = True
numprocesses = 2
{more}
"""


@contextlib.contextmanager
def stack(
    folder: Path,
    backend: str = "sync",
    *,
    path: str = "",
    more: str = "graceful_timeout = 10",
    argv: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Forkserve]:
    """Run two workers on one socket."""
    (folder / "site_d.py").write_text(ASGI if backend.endswith("asgi") else WSGI)
    socket_ = f"path = {path}" if path else "port = 0"
    config = STACK.format(socket=socket_, backend=backend, more=more)
    with running(*argv, cwd=folder, config=config, env={"PWD": str(folder), **(env or {})}) as server:
        yield server


def address_of(server: Forkserve) -> tuple[str, int]:
    found = server.expect(r"socket web: listening at http://(.*):(\d+)")
    return found[1], int(found[2])


def workers(server: Forkserve) -> list[int]:
    """Wait until both are ready, and return their pids."""
    return [int(server.expect(r"web\[\d\] pid (\d+) is ready")[1]) for _ in range(2)]


def connected(address: tuple[str, int] | str, path: str = "/") -> socket.socket:
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(address)
    else:
        client = socket.create_connection(address, PATIENCE)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return client


def answer(client: socket.socket) -> bytes:
    """Return all that comes until the server closes; b"" of one that was reset."""
    with client, contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


def queued(pids: list[int], address: tuple[str, int] | str) -> list[socket.socket]:
    """Fill the kernel's queue, while nobody accepts."""
    for pid in pids:
        pause(pid)
    return [connected(address) for _ in range(QUEUED)]


def answered(clients: list[socket.socket]) -> int:
    return sum(answer(client).endswith(b"\r\n\r\nok") for client in clients)


@pytest.mark.parametrize(
    "backend", ["cheroot", "gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "gunicorn-asgi", "waitress"]
)
def test_a_server_of_others_that_still_accepts_while_it_ends_finds_its_socket_as_it_was(
    tmp_path: Path, backend: str
) -> None:
    with stack(tmp_path, backend) as server:
        workers(server)
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert not [line for line in server.lines if "Errno" in line]


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent", "asgi"])
def test_what_waits_in_the_queue_is_answered_before_the_stack_ends(tmp_path: Path, backend: str) -> None:
    with stack(tmp_path, backend) as server:
        address = address_of(server)
        clients = queued(workers(server), address)
        server.send(signal.SIGTERM)  # which wakes them as well: a stopped process would never hear of it

        assert answered(clients) == QUEUED
        assert server.wait() == 0


def test_what_waits_in_the_queue_of_a_unix_socket_is_answered_too(tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    with stack(tmp_path, path=path) as server:
        clients = queued(workers(server), path)
        server.send(signal.SIGQUIT)

        assert answered(clients) == QUEUED
        assert server.wait() == 0


def test_a_stopped_watcher_answers_what_has_waited_too(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with stack(tmp_path, argv=["--control", str(tmp_path / "control.sock")]) as server:
        address = address_of(server)
        clients = queued(workers(server), address)
        stopping = subprocess.Popen(
            [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(tmp_path / "control.sock"), "stop", "web"],
            stdout=subprocess.DEVNULL,
        )

        assert answered(clients) == QUEUED
        assert stopping.wait(PATIENCE) == 0
        late = connected(address)  # the socket stays open: what comes now waits for the next start
        server.send(signal.SIGHUP)
        late.close()


def test_a_drained_worker_accepts_nothing_and_answers_what_it_has(tmp_path: Path) -> None:
    control = str(tmp_path / "control.sock")
    os.mkfifo(tmp_path / "go")
    with stack(tmp_path, "threads", argv=["--control", control]) as server, ControlClient(Path(control)) as ctl:
        address = address_of(server)
        workers(server)
        waiting = connected(address, "/wait")
        go = os.open(tmp_path / "go", os.O_WRONLY)
        assert ctl.call("drain", watcher="web")["message"] == "web: 2 processes accept nothing more"
        clients = [connected(address) for _ in range(5)]
        eventually(lambda: _statuses(ctl) == {"accepts nothing, 1 connections open", "accepts nothing"})
        os.close(go)
        assert answer(waiting).endswith(b"ok")  # and says Connection: close, or this would not end
        eventually(lambda: _statuses(ctl) == {"accepts nothing"})
        for client in clients:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
            client.setblocking(True)

        assert ctl.call("undrain", watcher="web", wid=2)["message"] == "web[2]: 1 process accepts again"
        assert all(client.recv(12) == b"HTTP/1.1 200" for client in clients)
        assert ctl.call("drain", watcher="web")["done"]
        ctl.call("reload", watcher="web")
        late = connected(address)
        eventually(lambda: _statuses(ctl) == {"accepts nothing"})
        server.send(signal.SIGTERM)
        assert answered([late]) == 1
        for client in clients:
            client.close()


def _statuses(ctl: ControlClient) -> set[str]:
    return {each.get("status", "") for each in ctl.call("status")[0]["processes"]}


def test_clients_are_refused_once_the_queue_is_empty_and_requests_in_flight_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    with stack(tmp_path) as server:
        address = address_of(server)
        workers(server)
        waiting = connected(address, "/wait")
        go = os.open(tmp_path / "go", os.O_WRONLY)  # returns when the application has opened it
        server.send(signal.SIGTERM)
        eventually(lambda: _is_refused(address))
        os.close(go)

        assert answer(waiting).endswith(b"ok")
        assert server.wait() == 0


def _is_refused(address: tuple[str, int]) -> bool:
    """Tell whether a client is refused; one whose SYN is dropped tries again after a second (tcp(7))."""
    try:
        socket.create_connection(address, 0.2).close()
    except TimeoutError:
        return False
    except ConnectionRefusedError:
        return True
    return False


def test_a_watcher_serves_on_for_its_drain_delay_and_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with stack(tmp_path, more="drain_delay = 1.5", env=env) as server:
            address = address_of(server)
            workers(server)
            server.send(signal.SIGTERM)
            server.expect(r"web: not ready any more, serves on for 1.5 s \(drain_delay\), then stops")

            assert answered([connected(address)]) == 1
            assert server.wait() == 0
        said = b""
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                said += systemd.recv(4096) + b"\n"
    assert b"STOPPING=1" in said
    assert b"STATUS=web: not ready any more" in said
    assert b"EXTEND_TIMEOUT_USEC=6500000" in said
    assert said.index(b"not ready any more") < said.index(b"web: stopping 2 processes")


def test_a_second_signal_ends_the_drain_delay(tmp_path: Path) -> None:
    with stack(tmp_path, more="drain_delay = 1000") as server:
        workers(server)
        server.send(signal.SIGTERM)
        server.expect("web: not ready any more")

        assert server.stop() == 0


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
RESTART = b"\x88\x11\x03\xf4service restart"
"""A close frame of RFC 6455 with 1012."""


def duplex(address: tuple[str, int]) -> socket.socket:
    client = socket.create_connection(address, PATIENCE)
    client.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return client


def test_streams_and_web_sockets_end_properly_over_a_reload(tmp_path: Path) -> None:
    streams_end_properly(tmp_path, events=10, grace=3)


def streams_end_properly(folder: Path, *, events: int, grace: float) -> None:
    """Reload under a hundred WebSockets, a stream that ends in time and one that does not; raises AssertionError."""
    with stack(folder, "asgi", more=f"graceful_timeout = {grace:g}") as server:
        address = address_of(server)
        workers(server)
        sockets = [duplex(address) for _ in range(100)]
        finite, endless = connected(address, f"/{events}"), connected(address, "/endless")
        for stream in (finite, endless):
            assert stream.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
        server.send(signal.SIGHUP)

        for each in sockets:
            frame = each.recv(100)
            each.sendall(b"\x88\x82\0\0\0\0\x03\xf4")
            assert frame + answer(each) == RESTART
        whole = answer(finite)
        assert whole.count(b"data: x") == events
        assert whole.endswith(b"\r\n0\r\n\r\n")
        rest = answer(endless)
        assert rest.count(b"data: x") > events + 2, "cut before its time"
        assert rest.endswith(b"\r\n0\r\n\r\n")
