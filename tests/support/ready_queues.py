"""Two drivers on real sockets, one with the ready queue in C, one with that in Python, given the same bytes.

Rules: everything happens in the calling thread, turn by turn, so the same pieces give the same outcome. What counts is
what reaches the exchanges (line, fields, body) and what comes back over the socket.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from forkserve.backends.base import Run
from forkserve.config.serving import ServingOptions
from forkserve.serving.ends import End
from forkserve.serving.engine.dispatch import ReadyQueue, ready_queue
from forkserve.serving.engine.driver import Driver, Service
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.wakeup import Wakeup
from forkserve.serving.http.fields import Collector, Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import Profile
from forkserve.serving.http.response import Responder
from tests.support.compiled_heads import facts

__all__ = ["BothQueues", "Driven"]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TURNS = 400
"""Turns of the loop until a connection that has said all it had to must be closed."""


class _Recorded:
    """An exchange that notes its request and answers it."""

    starts_at_head = defers_body = False

    def __init__(self, conn: Any, line: RequestLine, fields: Fields) -> None:
        self.conn = conn
        self.line = line
        self.fields = fields
        self.data = b""

    def body(self, data: bytes) -> None:
        self.data += data

    def body_end(self) -> None:
        """The driver starts it now."""

    def body_held(self) -> None:
        raise AssertionError("it holds nothing")

    def end(self, how: End) -> bool:
        if how is End.STUCK:
            self.conn.done(False)
        return True


class _Recorder:
    """Runs exchanges: each is noted, and answered at once."""

    lock: AbstractContextManager[Any] = nullcontext()
    wakes = False

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def start(self, exchange: _Recorded) -> None:
        self.seen.append((facts(exchange.line, exchange.fields), exchange.data))
        with contextlib.suppress(OSError):
            exchange.conn.reply(ANSWER, exchange.fields.keep_alive and exchange.fields.upgrade is None)

    def resume(self, exchange: _Recorded) -> None:
        raise AssertionError("nothing parks")

    def notify(self, exchange: _Recorded) -> None:
        """It does not wait."""

    def interrupt(self, exchange: _Recorded) -> bool:
        return False


class Driven:
    """One driver with its listener."""

    def __init__(self, collector: type[Collector], *, compiled: bool) -> None:
        options = ServingOptions()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.recorder = _Recorder()
        listening = Listening(self.sock, {}, Profile(options.http.effective(), collector, RememberedFields))
        self.run = Run(options)
        service = Service(exchange=_Recorded, responder=Responder(0.0, "test"), wakeup=Wakeup())
        make = ready_queue if compiled else ReadyQueue
        self.driver = Driver([listening], service, self.recorder, self.run, make)

    def close(self) -> None:
        self.driver.close()
        self.sock.close()

    def play(self, pieces: Sequence[bytes]) -> tuple[list[Any], bytes]:
        """Return what reached the exchanges, and what the client of a connection of these pieces received."""
        self.recorder.seen = []
        with socket.create_connection(self.sock.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            self.driver.ready(0.0)
            with contextlib.suppress(OSError):
                for piece in pieces:
                    client.send(piece)
                    self.driver.ready(0.0)
                client.shutdown(socket.SHUT_WR)
            received = self._until_closed(client)
        self._settle()
        return self.recorder.seen, re.sub(rb"Date: [^\r]*", b"Date:", received)

    def _until_closed(self, client: socket.socket) -> bytes:
        received = b""
        for _ in range(TURNS):
            self.driver.ready(0.0)
            try:
                part = client.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return received
            if not part:
                return received
            received += part
        raise AssertionError("the connection was not closed")

    def _settle(self) -> None:
        for _ in range(TURNS):
            if not self.driver.connections:
                return
            self.driver.ready(0.0)
        raise AssertionError("a connection stays though its client has closed it")


class BothQueues:
    """The same for both queues."""

    def __init__(self, collector: type[Collector]) -> None:
        self.compiled = Driven(collector, compiled=True)
        self.python = Driven(collector, compiled=False)

    def close(self) -> None:
        self.compiled.close()
        self.python.close()

    def check(self, pieces: Sequence[bytes]) -> None:
        """Hold one ready queue against the other."""
        compiled, python = self.compiled.play(pieces), self.python.play(pieces)
        assert compiled == python, (
            f"the ready queues differ on {list(pieces)!r}:\n  C {compiled!r}\n  Python {python!r}"
        )
