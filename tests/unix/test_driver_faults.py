"""An exception that nobody expected in the loop costs one connection, and the driver goes on."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from forkserve.backends.base import Run
from forkserve.config.serving import ServingOptions
from forkserve.serving.ends import End
from forkserve.serving.engine.dispatch import ReadyQueue, ready_queue
from forkserve.serving.engine.driver import Driver, Service
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.wakeup import Wakeup
from forkserve.serving.http.fields import EnvironCollector, Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import Profile
from forkserve.serving.http.response import Responder
from forkserve.serving.native import hot
from tests.support.serving import PATIENCE, bound

REQUEST = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
QUEUES = [
    pytest.param(False, id="pure"),
    pytest.param(True, id="compiled", marks=pytest.mark.skipif(hot is None, reason="the C is not built here")),
]


class Trouble:
    """An exchange that fails where its path says, outside of every barrier of its own."""

    starts_at_head = defers_body = False
    in_memory = 0

    def __init__(self, conn: Any, line: RequestLine, fields: Fields) -> None:
        self.conn = conn
        self.path = line.path
        self.at("/made")

    def at(self, path: str) -> None:
        if self.path == path:
            raise FAULTS[path]

    def end(self, how: End) -> bool:
        self.at("/lost")
        return True


FAULTS: dict[str, BaseException] = {
    "/made": ValueError("made"),
    "/started": MemoryError(),
    "/late": RuntimeError("late"),
    "/lost": RuntimeError("lost"),
    "/ends": SystemExit(3),
}


class Runner:
    """Runs an exchange at once."""

    lock = nullcontext()
    wakes = False

    def start(self, exchange: Trouble) -> None:
        exchange.at("/started")
        exchange.at("/ends")
        if exchange.path == "/late":
            exchange.conn.owner.later(exchange.conn)
            # As a connection that cannot be gone on with.
            exchange.conn.inbox = 7
            exchange.conn.exchange = None
            return
        if exchange.path == "/lost":
            return
        exchange.conn.reply(OK, True)

    def resume(self, exchange: Trouble) -> None: ...

    def notify(self, exchange: Trouble) -> None: ...

    def interrupt(self, exchange: Trouble) -> bool:
        return True


@pytest.fixture(params=QUEUES)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Driver, Callable[[], socket.socket]]]:
    options = ServingOptions()
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(bound())
        sock.setblocking(False)
        listening = Listening(sock, {}, Profile(options.http.effective(), EnvironCollector, RememberedFields))
        service = Service(exchange=Trouble, responder=Responder(0.0, "test"), wakeup=Wakeup())
        make = ready_queue if request.param else ReadyQueue
        driver = Driver([listening], service, Runner(), Run(options), make)
        stack.callback(driver.close)

        def connect() -> socket.socket:
            client = stack.enter_context(socket.create_connection(sock.getsockname(), PATIENCE))
            driver.ready(PATIENCE)
            return client

        yield driver, connect


def answer(driver: Driver, client: socket.socket, path: bytes) -> bytes:
    """Ask, have the driver take its turns, and return what came; b"" if the connection was closed."""
    client.sendall(REQUEST % path)
    for _ in range(3):
        driver.ready(0.05)
    try:
        return client.recv(4096)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(("path", "status"), [(b"/made", b"HTTP/1.1 500 "), (b"/started", b""), (b"/late", b"")])
def test_one_connection_pays(served: Any, path: bytes, status: bytes, caplog: pytest.LogCaptureFixture) -> None:
    driver, connect = served
    other, client = connect(), connect()
    with caplog.at_level(logging.ERROR):
        assert answer(driver, client, path).startswith(status)
    assert [record for record in caplog.records if record.exc_info], "the traceback is in the log"
    assert answer(driver, other, b"/") == OK
    client.close()
    driver.ready(0.05)
    assert len(driver.connections) == 1


def test_a_fault_of_the_same_kind_is_told_once(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    driver, connect = served
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            answer(driver, connect(), b"/started")
    assert len(caplog.records) == 1


def test_a_fault_while_a_connection_is_given_up_closes_it_all_the_same(served: Any) -> None:
    driver, connect = served
    client = connect()
    client.sendall(REQUEST % b"/lost")
    driver.ready(0.05)
    client.sendall(b"x")
    conn = next(iter(driver.connections.values()))
    driver.faults.of(conn.fd, RuntimeError("a fault while it runs"))
    assert not driver.connections
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    assert answer(driver, connect(), b"/") == OK


def test_what_is_to_end_the_process_passes(served: Any) -> None:
    driver, connect = served
    client = connect()
    client.sendall(REQUEST % b"/ends")
    with pytest.raises(SystemExit):
        driver.ready(1.0)


def test_a_loop_that_only_fails_ends(served: Any) -> None:
    driver, _ = served

    class Broken:
        def wait(self, timeout: float | None) -> None:
            raise OSError("epoll is no more")

    driver.ready_queue = Broken()
    with pytest.raises(OSError, match="no more"):
        for _ in range(1000):
            driver.ready(0)
