"""The control server on a real Unix socket, in a loop as small as a loop can be, against real clients."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient, TimedOutError
from forkserve.control.connection import STREAM_LIMIT, Respond
from forkserve.control.http import BODY_LIMIT, Reply, Request, StreamReply
from forkserve.control.server import MOST_CONNECTIONS, ControlServer
from forkserve.errors import BindError, ControlError


class Appointment:
    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class SmallLoop:
    """The loop that the server needs, run in a thread so that the test may be the client."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.timers: list[Appointment] = []
        self.ours, self.theirs = socket.socketpair()
        self.selector.register(self.ours, selectors.EVENT_READ, lambda _events: None)
        self.thread = threading.Thread(target=self.run)

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        if fd in self.selector.get_map():
            self.selector.modify(fd, events, callback)
        else:
            self.selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        if fd in self.selector.get_map():
            self.selector.unregister(fd)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Appointment:
        self.timers.append(Appointment(time.monotonic() + delay, callback))
        return self.timers[-1]

    def run(self) -> None:
        while True:
            for key, events in self.selector.select():
                if key.fileobj is self.ours:
                    return
                key.data(events)

    def stop(self) -> None:
        self.theirs.close()
        if self.thread.ident is not None:
            self.thread.join()

    def close(self) -> None:
        self.stop()
        self.ours.close()
        self.selector.close()


held: list[Respond] = []


poured: list[int] = []
ended = threading.Event()


def _pour(push: Callable[[bytes], None]) -> Callable[[], None]:
    """Push more than any client may leave unread; pushing to one that has gone does nothing."""
    for number in range(64):
        push(b"data: " + b"x" * 100_000 + b"\n\n")
        poured.append(number)
    return ended.set


def handler(request: Request, respond: Respond) -> None:
    """Echo what was asked; `/hold` is answered by the next request."""
    if request.path == "/v1/hold":
        held.append(respond)
        return
    for waiting in held:
        waiting(Reply(HTTPStatus.OK, b'{"held": true}'))
    held.clear()
    if request.path == "/v1/refuse":
        respond(Reply(HTTPStatus.CONFLICT, b'{"error": "not now"}'))
        return
    if request.path == "/v1/stream":
        respond(StreamReply(b"data: first\n\n", _pour))
        return
    answer = {"path": request.path, "query": request.query, "body": request.body.decode()}
    respond(Reply(HTTPStatus.OK, json.dumps(answer).encode()))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    loop = SmallLoop()
    server = ControlServer(tmp_path / "control.sock", loop, handler)
    loop.thread.start()
    yield server.path
    loop.stop()
    server.close()
    loop.close()

    assert not server.path.exists()


def test_a_call_carries_its_parameters_and_brings_back_the_answer(path: Path) -> None:
    with ControlClient(path) as client:
        first = client.call("stop", watcher="web", waiting=False, pid=None)
        second = client.call("list")

    assert json.loads(first["body"]) == {"watcher": "web", "waiting": False}
    assert second["path"] == "/v1/list"


def test_curl_can_speak_it(path: Path) -> None:
    command = ["curl", "-sS", "--unix-socket", str(path), "http://localhost/v1/status?watcher=web%201"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=10)

    assert json.loads(done.stdout) == {"path": "/v1/status", "query": {"watcher": "web 1"}, "body": ""}


def test_curl_can_send_a_body_that_waits_for_100_continue(path: Path) -> None:
    body = json.dumps({"text": "x" * 5000})
    command = [
        "curl",
        "-sS",
        "--unix-socket",
        str(path),
        "-H",
        "Expect: 100-continue",
        "-d",
        body,
        "http://localhost/v1/set",
    ]
    done = subprocess.run(command, capture_output=True, check=True, timeout=10)

    assert json.loads(done.stdout)["body"] == body


def test_the_socket_is_for_its_owner_alone(path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_refusal_comes_as_the_masters_own_words(path: Path) -> None:
    with ControlClient(path) as client, pytest.raises(ControlError, match="not now"):
        client.call("refuse")


def test_a_reply_that_waits_holds_up_nobody_else(path: Path) -> None:
    answers: list[object] = []
    with ControlClient(path) as waiting, ControlClient(path) as other:
        thread = threading.Thread(target=lambda: answers.append(waiting.call("hold")))
        thread.start()
        while thread.is_alive():  # each answered request lets go of whoever waits
            assert other.call("list")["path"] == "/v1/list"

    assert answers == [{"held": True}]


def test_a_client_that_leaves_while_it_waits_does_no_harm(path: Path) -> None:
    leaving = socket.socket(socket.AF_UNIX)
    leaving.connect(str(path))
    leaving.sendall(b"GET /v1/hold HTTP/1.1\r\nHost: x\r\n\r\n")
    leaving.close()
    with ControlClient(path) as client:
        assert client.call("list")["path"] == "/v1/list"
        assert client.call("list")["path"] == "/v1/list"


def test_no_answer_in_time_is_its_own_error(path: Path) -> None:
    with ControlClient(path, timeout=0.05) as client, pytest.raises(TimedOutError):
        client.call("hold")
    held.clear()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /v1 HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", 431),
        (b"POST /v1/set HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * (BODY_LIMIT + 1), 413),
    ],
)
def test_what_is_not_a_request_is_told_so_and_cut_off(path: Path, sent: bytes, status: int) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(sent)
        answer = b""
        while data := client.recv(65536):
            answer += data

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'"error"' in answer


def test_more_clients_than_the_bound_are_turned_away_and_the_rest_are_served(path: Path) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(MOST_CONNECTIONS + 1)]
    for client in clients:
        client.settimeout(10)
        client.connect(str(path))

    assert clients[-1].recv(100).startswith(b"HTTP/1.1 503 ")

    clients[0].sendall(b"GET /v1/list HTTP/1.1\r\nHost: x\r\n\r\n")

    assert clients[0].recv(100).startswith(b"HTTP/1.1 200 ")
    for client in clients:
        client.close()


def test_a_stale_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    loop = SmallLoop()
    server = ControlServer(stale, loop, handler)
    with pytest.raises(BindError, match="another forkserve listens"):
        ControlServer(stale, loop, handler)
    server.close()
    loop.close()


def test_a_client_that_follows_events_and_does_not_read_is_dropped_at_a_bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 200") and b"data: first" in received
    assert len(received) < STREAM_LIMIT + 2_000_000
    assert b"\r\n0\r\n\r\n" not in received
