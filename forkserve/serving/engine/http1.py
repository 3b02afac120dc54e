"""HTTP/1.1 on connections: bytes become requests, one after another, and each is started when it may run.

An exchange is started when its request is whole. It is started at its head if `exchange.starts_at_head` is true, or if
the client expects `100 Continue` and `exchange.defers_body`; then the body arrives while it runs, and `conn.proceed()`
asks such a client for it. Otherwise the client is asked here: a runner that runs in place must not wait for a client.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable
from typing import Any

from forkserve.serving.engine.body_receiver import BodyReceiver
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.memory import Memory
from forkserve.serving.engine.phases import READABLE, UNHEARD, WRITABLE, ConnectionLost, Phase
from forkserve.serving.engine.protocols import FINISHED, EngineLoop, Runner
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.request import RequestReader

__all__ = ["Factory", "Http1"]

RECEIVE = 65_536
"""Bytes read at once, and the most that a client can make us keep beyond the request that runs."""
IDLE, HEAD, BODY, RUNNING, LINGERING, CLOSED = list(Phase)[1:]
GONE = select.EPOLLHUP | select.EPOLLERR

Factory = Callable[[Connection, RequestLine, Fields], Any]
"""Makes the exchange of a request; raises Refusal."""


class Http1:
    """Takes connections from request to request.

    `start` runs an exchange, `run_deadline` is the deadline of those that are started in this turn of the loop.
    """

    def __init__(
        self,
        loop: EngineLoop,
        connections: Connections,
        memory: Memory,
        *,
        exchange: Factory,
        runner: Runner,
        start: Callable[[Any], None],
    ) -> None:
        self.exchange = exchange
        self.start = start
        self.run_deadline = loop.now + loop.timeouts.timeout
        self._loop = loop
        self._http_limits = loop.http_limits
        self._timeouts = loop.timeouts
        self._connections = connections
        self._memory = memory
        self._runner = runner

    def receive(self, conn: Connection) -> None:
        """Read from a connection that waits for a request."""
        try:
            data = conn.recv(RECEIVE)
        except BlockingIOError:
            _await_write(conn)
            return
        except OSError as error:
            self._connections.refusals.tls_failed(conn, error)
            data = b""
        if data:
            self.take(conn, data)
        else:
            self.ended(conn)

    def ended(self, conn: Connection) -> None:
        """Called when a client that waits for no response has closed its connection."""
        self._connections.part(conn)

    def take(self, conn: Connection, data: bytes) -> None:
        """Take bytes of a request; run it when it is whole, or earlier if its interface wants that."""
        reader = conn.reader or conn.listening.spare
        try:
            if not reader.feed(data):
                self._keep_reader(conn, reader)
                self._memory.took(len(data))
                return
        except BaseException as error:
            # What the reader holds of this request must not meet the next one, which may be another client's.
            reader.drop()
            if not isinstance(error, Refusal):
                raise
            self._connections.refuse(conn, error)
            return
        conn.reader = None
        self.begin(conn, reader.line, reader.fields, reader.take_rest())

    def begin(self, conn: Connection, line: RequestLine, fields: Fields, rest: bytes) -> None:
        """Begin a request whose head was read; `rest` followed it."""
        try:
            conn.exchange = exchange = self.exchange(conn, line, fields)
            if rest:
                conn.inbox = rest
            if fields.content_length or fields.chunked:
                self._begin_body(conn, fields)
                return
        except Refusal as refusal:
            self._connections.refuse(conn, refusal)
            return
        conn.phase = RUNNING
        conn.deadline = self.run_deadline
        self.start(exchange)

    def _keep_reader(self, conn: Connection, reader: RequestReader) -> None:
        """Keep the reader with its connection, since a head has begun and not ended."""
        if conn.reader is None:
            conn.reader = reader
            conn.listening.renew()
            conn.phase = HEAD
            conn.deadline = self._loop.now + self._timeouts.header_timeout

    def _begin_body(self, conn: Connection, fields: Fields) -> None:
        exchange = conn.exchange
        assert exchange is not None
        data, conn.inbox = conn.inbox, b""
        held = fields.expect_continue and exchange.defers_body
        length = fields.content_length
        if length and length <= len(data) and length <= self._http_limits.max_body and not held:
            # All of it has come with the head.
            conn.inbox = data[length:]
            exchange.body(data[:length])
            exchange.body_end()
            conn.phase = RUNNING
            conn.deadline = self.run_deadline
            self.start(exchange)
            return
        conn.body = BodyReceiver(fields, self._http_limits, self._timeouts, self._loop.now)
        conn.phase = BODY
        conn.deadline = conn.body.deadline(self._loop.now)
        if held:
            # Before the body, which may have come with the head and start the exchange at once.
            exchange.body_held()
        elif fields.expect_continue and not data:
            with contextlib.suppress(ConnectionLost):
                conn.proceed()
        if data:
            self._take_body(conn, data)
        if conn.phase is BODY and (exchange.starts_at_head or held):
            conn.phase = RUNNING
            self.start(exchange)

    def _take_body(self, conn: Connection, data: bytes) -> None:
        """Pass the bytes of a body on, and start the exchange when it is whole. Raises Refusal."""
        receiver, exchange = conn.body, conn.exchange
        assert receiver is not None
        assert exchange is not None
        if exchange is FINISHED and not conn.drop(data):
            # Its request is answered, and reading so much is not worth the connection.
            conn.body = None
            conn.close_after = True
            conn.watch(conn.events & ~READABLE)
            self.advance(conn)
            return
        block = receiver.feed(data)
        if block:
            exchange.body(block)
            self._memory.took(len(block))
            if self._memory.tight:
                exchange.spill()
        if not receiver.done:
            conn.deadline = receiver.deadline(self._loop.now)
            return
        conn.body = None
        conn.inbox = receiver.rest
        conn.deadline = FOREVER if conn.patient else self.run_deadline
        started = conn.phase is RUNNING
        conn.phase = RUNNING
        exchange.body_end()
        if exchange is FINISHED:
            conn.unheard = UNHEARD
            self.advance(conn)
        elif started:
            self._runner.notify(exchange)
        else:
            self.start(exchange)

    def handle(self, conn: Connection, event: int) -> None:
        """Handle an event other than bytes for a connection that waits for a request."""
        if event & GONE and not (conn.phase is LINGERING and event & READABLE and not event & select.EPOLLERR):
            # Both sides closed is a hang-up, too, and what the client sent before its end is read first.
            self._connections.lose(conn)
            return
        if event & WRITABLE and conn.stalled:
            conn.watch(READABLE)
            event = READABLE
        if event & WRITABLE:
            try:
                flushed = conn.flush()
            except ConnectionLost:
                self._connections.lose(conn)
                return
            if flushed:
                self._flushed(conn)
        if event & READABLE and conn.phase is not CLOSED:
            self._read(conn)

    def _flushed(self, conn: Connection) -> None:
        if conn.patient:
            conn.deadline = FOREVER
        else:
            conn.deadline = self.run_deadline if conn.body is None else conn.body.deadline(self._loop.now)
        if conn.exchange is FINISHED:
            self.advance(conn)
        elif conn.parked:
            conn.parked = False
            self._runner.resume(conn.exchange)

    def _read(self, conn: Connection) -> None:
        """Read from a connection whose request runs, whose body arrives, or that is being closed."""
        try:
            data = conn.recv(RECEIVE)
        except BlockingIOError:
            _await_write(conn)
            return
        except OSError:
            self._connections.lose(conn)
            return
        if conn.receive is not None:
            conn.receive(data)
            self._memory.took(len(data))
        elif conn.phase is LINGERING or (not data and conn.phase is BODY):
            if not data:
                self._connections.lose(conn)
            elif not conn.drop(data):
                conn.reset()
                self._connections.lose(conn)
        elif data and conn.body is not None:
            try:
                self._take_body(conn, data)
            except Refusal as refusal:
                self._connections.refuse(conn, refusal)
        else:
            self._read_ahead(conn, data)

    def _read_ahead(self, conn: Connection, data: bytes) -> None:
        """Keep what a client sends while its request runs, up to one read; leave the rest to the kernel."""
        if not data:
            conn.half_closed = True
            if conn.body is not None:
                self._connections.lose(conn)
                return
        conn.inbox += data
        if conn.half_closed or len(conn.inbox) >= RECEIVE:
            conn.watch(conn.events & ~READABLE)
        exchange = conn.exchange
        if exchange is None:
            self.advance(conn)
        elif conn.half_closed and exchange is not FINISHED:
            self._runner.notify(exchange)

    def advance(self, conn: Connection) -> None:
        """Continue a connection whose exchange has ended: send the rest, then close, or take the next request."""
        if conn.exchange is FINISHED and conn.phase is not CLOSED:
            if conn.out is not None:
                return
            if conn.close_after:
                self._connections.linger(conn)
                return
            if conn.body is not None:
                conn.phase = BODY
                return
            conn.phase = IDLE
            conn.deadline = self._loop.idle_deadline
            conn.exchange = None
        if conn.phase is CLOSED and conn.exchange in (FINISHED, None):
            self._connections.close(conn)
        elif conn.exchange is None:
            self._next(conn)

    def _next(self, conn: Connection) -> None:
        if conn.inbox:
            data, conn.inbox = conn.inbox, b""
            if not conn.half_closed:
                conn.watch(conn.events | READABLE)
            self.take(conn, data)
            if conn.half_closed and (conn.phase is HEAD or conn.body is not None):
                # The rest will never come.
                self._connections.lose(conn)
        elif conn.half_closed:
            self._connections.part(conn)


def _await_write(conn: Connection) -> None:
    """Resume reading once the socket is writable, if TLS has to write first."""
    if conn.stalled:
        conn.watch(WRITABLE)
