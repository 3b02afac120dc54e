"""The one epoll driver under every backend: it owns accept, reading, writing, time limits, draining and closing.

How a backend plugs in
----------------------
`Driver(listenings, limits, exchange=..., runner=..., run=...)`, where

* each of `listenings` has a profile, which says in which shape header fields are wanted (`forkserve.serving.http`);
* `exchange(conn, line, fields)` makes the object of one request (`Exchange` in `connection.py`): it is given the body
  by `body(data)` and `body_end()`, and is told by `lost()` that the client has gone while it runs;
* `runner` (`Runner` in `sockets.py`) says how an exchange is run: at once (sync), on a thread, in a greenlet, as the
  first step of a coroutine. It is the only thing in which backends differ.

An exchange is started when its request is whole. It is started at its head if `exchange.early` is true, or if the
client expects `100 Continue` and `exchange.holds`; then the body arrives while it runs, and `conn.proceed()` asks such
a client for it. Else the driver asks: who runs in place must not wait for a client.

What an exchange does with its connection: `conn.reply(payload, keep)` sends a whole response and ends the exchange in
one call; or any number of `conn.write(data)` and `conn.write_file(part)`, then `conn.done(keep)`. When `write` returns
False the client reads slowly: the exchange calls `conn.park()` and, if that is true, stops until `runner.resume`.
ConnectionLost (an OSError) says that the client has gone: clean up and call `conn.done(False)`.

After `conn.take_over(receive)` (WebSocket) all further bytes go to `receive(data)`, b"" at the end of input;
`conn.watch(...)` with or without READABLE is backpressure on what the client sends.

Alone (sync, threads): `driver.run()` loops until drained.

Nested in another loop (asyncio, gevent): an epoll descriptor can itself be polled, so the outer loop watches
`driver.fileno()` for reading and calls `driver.ready()`, which serves one batch of everything that is ready and never
blocks. `driver.timeout()` says in how many seconds `ready()` must be called at the latest, for the time limits.

    loop.add_reader(driver.fileno(), driver.ready)                     # asyncio
    hub.loop.io(driver.fileno(), 1).start(driver.ready)                # gevent

Threads: only `reply`, `write`, `write_file`, `park` and `done` may be called off the loop, by the one thread that runs
the connection's exchange; what remains to be done is handed to the loop by `later`, which wakes it if `runner.wakes`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from forkserve.serving.engine.access import AccessLog
from forkserve.serving.engine.connection import FINISHED, READABLE, UNHEARD, WRITABLE, Connection, ConnectionLost, Phase
from forkserve.serving.engine.intake import Intake
from forkserve.serving.engine.lane import lane_of
from forkserve.serving.engine.limits import FOREVER, Limits
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.share import TURN
from forkserve.serving.engine.sockets import Runner, Sockets
from forkserve.serving.engine.upkeep import Serving
from forkserve.serving.http.errors import error_response
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.request import RequestReader

__all__ = ["Driver", "Runner"]

RECEIVE = 65_536
"""Bytes read at once, and all that a client can make us keep beyond the request that runs."""
LOG_DELAY = 0.05
"""Seconds that lines of the access log wait for others."""
IDLE, HEAD, BODY, RUNNING, LINGERING, CLOSED = list(Phase)[1:]
GONE = select.EPOLLHUP | select.EPOLLERR


class Driver(Sockets):
    """Serves the listeners until drained; see the module's docstring for how a backend takes part."""

    def __init__(
        self,
        listenings: Sequence[Listening],
        limits: Limits,
        *,
        exchange: Callable[[Connection, RequestLine, Fields], Any],
        runner: Runner,
        run: Serving,
    ) -> None:
        super().__init__(listenings, limits, runner, run)
        self.exchange = exchange
        self.start = self.upkeep.counted(runner.start)
        self.run_deadline = self.now + limits.run
        self.access: AccessLog | None = None
        self.noted: list[str] | tuple[()] = ()
        self.write_at = self.now
        self.lane = lane_of(self)

    def fileno(self) -> int:
        """Return the descriptor that an outer loop watches for reading."""
        return self.epoll.fileno()

    def run(self) -> None:
        """Serve until drained, where no other loop does."""
        while not self.drained:
            self.ready(self.timeout())
        self.close()

    def close(self) -> None:
        """Give up what is left."""
        super().close()
        if self.access is not None:
            self.access.flush()

    def ready(self, timeout: float | None = 0.0) -> None:
        """Serve one batch of everything that is ready; wait for it at most `timeout` seconds (None: for ever)."""
        lane = self.lane
        now = self.now
        try:
            lane.wait(timeout)
            self.now = now = time.monotonic()
            self.mark[TURN] = now
            if now >= self.next_sweep:
                self.next_sweep = self.upkeep.sweep(now)
            self.idle_deadline = now + self.limits.keep_alive
            self.run_deadline = now + self.limits.run
            lane.serve()
            if self.todo or self.unsettled or (self.noted and now >= self.write_at):
                self._end_turn()
        except BaseException as error:  # noqa: BLE001 - the fault barrier of the loop
            self.faults.of_turn(error)
        self.mark[TURN] = -now

    def fault(self, number: int, error: BaseException) -> None:
        """Called when `error` was raised in the service of the descriptor `number`; raises what is to end the loop."""
        self.faults.of(number, error)

    def receive(self, conn: Connection) -> None:
        """Read from a connection that waits for a request."""
        try:
            data = conn.recv(RECEIVE)
        except BlockingIOError:
            if conn.stalled:
                conn.watch(WRITABLE)
            return
        except OSError:
            data = b""
        if data:
            self.take(conn, data)
        else:
            self.part(conn)

    def timeout(self) -> float | None:
        """Return in how many seconds `ready` is due at the latest; None when nothing has a time limit."""
        if self.noted:
            return LOG_DELAY
        if self.connections or self.upkeep.busy:
            return max(0.0, self.next_sweep - time.monotonic())
        return None

    def take(self, conn: Connection, data: bytes) -> None:
        """Take bytes of a request; run it when it is whole, or when its interface wants it early."""
        reader = conn.reader or conn.listening.spare
        try:
            if not reader.feed(data):
                self._keep_reader(conn, reader)
                self.memory.took(len(data))
                return
        except BaseException as error:
            # What the reader holds of this request must not meet the next one, which may be another client's.
            reader.drop()
            if not isinstance(error, Refusal):
                raise
            self.refuse(conn, error)
            return
        conn.reader = None
        self.begin(conn, reader.line, reader.fields, reader.take_rest())

    def begin(self, conn: Connection, line: RequestLine, fields: Fields, rest: bytes) -> None:
        """Begin with a request whose head was read; `rest` came behind it."""
        try:
            conn.exchange = exchange = self.exchange(conn, line, fields)
            if rest:
                conn.inbox = rest
            if fields.content_length or fields.chunked:
                self._begin_body(conn, fields)
                return
        except Refusal as refusal:
            self.refuse(conn, refusal)
            return
        conn.phase = RUNNING
        conn.deadline = self.run_deadline
        self.start(exchange)

    def _keep_reader(self, conn: Connection, reader: RequestReader) -> None:
        """A head has begun and not ended: the reader stays with its connection until it has."""
        if conn.reader is None:
            conn.reader = reader
            conn.listening.renew()
            conn.phase = HEAD
            conn.deadline = self.now + self.limits.header

    def _begin_body(self, conn: Connection, fields: Fields) -> None:
        exchange = conn.exchange
        assert exchange is not None
        data, conn.inbox = conn.inbox, b""
        held = fields.expect_continue and exchange.holds
        length = fields.content_length
        if length and length <= len(data) and length <= self.limits.http.max_body and not held:
            # All of it has come with the head.
            conn.inbox = data[length:]
            exchange.body(data[:length])
            exchange.body_end()
            conn.phase = RUNNING
            conn.deadline = self.run_deadline
            self.start(exchange)
            return
        conn.body = Intake(fields, self.limits, self.now)
        conn.phase = BODY
        conn.deadline = conn.body.deadline(self.now)
        if held:
            # Before the body, which may have come with the head and start the exchange at once.
            exchange.body_held()
        elif fields.expect_continue and not data:
            with contextlib.suppress(ConnectionLost):
                conn.proceed()
        if data:
            self._take_body(conn, data)
        if conn.phase is BODY and (exchange.early or held):
            conn.phase = RUNNING
            self.start(exchange)

    def _take_body(self, conn: Connection, data: bytes) -> None:
        """Pass the bytes of a body on, and start the exchange when it is whole. Raises Refusal."""
        intake, exchange = conn.body, conn.exchange
        assert intake is not None
        assert exchange is not None
        if exchange is FINISHED and not conn.drop(data):
            # Its request is answered, and reading so much is not worth the connection.
            conn.body = None
            conn.close_after = True
            conn.watch(conn.events & ~READABLE)
            self._advance(conn)
            return
        block = intake.feed(data)
        if block:
            exchange.body(block)
            self.memory.took(len(block))
            if self.memory.tight:
                exchange.spill()
        if not intake.done:
            conn.deadline = intake.deadline(self.now)
            return
        conn.body = None
        conn.inbox = intake.rest
        conn.deadline = FOREVER if conn.patient else self.run_deadline
        started = conn.phase is RUNNING
        conn.phase = RUNNING
        exchange.body_end()
        if exchange is FINISHED:
            conn.unheard = UNHEARD
            self._advance(conn)
        elif started:
            self.runner.notify(exchange)
        else:
            self.start(exchange)

    def handle(self, conn: Connection, event: int) -> None:
        """Whatever is not "bytes for a connection that waits for a request"."""
        if event & GONE:
            self.lose(conn)
            return
        if event & WRITABLE and conn.stalled:
            conn.watch(READABLE)
            event = READABLE
        if event & WRITABLE:
            try:
                flushed = conn.flush()
            except ConnectionLost:
                self.lose(conn)
                return
            if flushed:
                self._flushed(conn)
        if event & READABLE and conn.phase is not CLOSED:
            self._read(conn)

    def _flushed(self, conn: Connection) -> None:
        if conn.patient:
            conn.deadline = FOREVER
        else:
            conn.deadline = self.run_deadline if conn.body is None else conn.body.deadline(self.now)
        if conn.exchange is FINISHED:
            self._advance(conn)
        elif conn.parked:
            conn.parked = False
            self.runner.resume(conn.exchange)

    def _read(self, conn: Connection) -> None:
        """Read from a connection whose request runs, whose body comes, or that is being closed."""
        try:
            data = conn.recv(RECEIVE)
        except BlockingIOError:
            if conn.stalled:
                conn.watch(WRITABLE)
            return
        except OSError:
            self.lose(conn)
            return
        if conn.receive is not None:
            conn.receive(data)
        elif conn.phase is LINGERING or (not data and conn.phase is BODY):
            if not data:
                self.lose(conn)
            elif not conn.drop(data):
                conn.reset()
                self.lose(conn)
        elif data and conn.body is not None:
            try:
                self._take_body(conn, data)
            except Refusal as refusal:
                self.refuse(conn, refusal)
        else:
            self._read_ahead(conn, data)

    def _read_ahead(self, conn: Connection, data: bytes) -> None:
        """Keep what a client sends while its request runs, up to one read; leave the rest to the kernel."""
        if not data:
            conn.half_closed = True
            if conn.body is not None:
                self.lose(conn)
                return
        conn.inbox += data
        if conn.half_closed or len(conn.inbox) >= RECEIVE:
            conn.watch(conn.events & ~READABLE)
        exchange = conn.exchange
        if exchange is None:
            self._advance(conn)
        elif conn.half_closed and exchange is not FINISHED:
            self.runner.notify(exchange)

    def log_to(self, access: AccessLog) -> None:
        """Write at the end of each turn what exchanges leave in this log."""
        self.access = access
        self.noted = access.lines

    def _end_turn(self) -> None:
        """Go on with connections whose exchange has ended; one round, so that no pipeline starves others."""
        if self.access is not None and self.now >= self.write_at:
            self.write_at = self.now + LOG_DELAY
            self.access.flush()
        for _ in range(len(self.todo)):
            conn = self.todo.popleft()
            try:
                self._advance(conn)
            except BaseException as error:  # noqa: BLE001 - the fault barrier of one connection
                self.faults.of(conn.fd, error)
        if self.unsettled and self.share is not None:
            self.share.settle()
        if self.todo:
            os.eventfd_write(self.wakeup, 1)

    def _advance(self, conn: Connection) -> None:
        """Go on with a connection whose exchange has ended: send the rest, then close, or take the next request."""
        if conn.exchange is FINISHED and conn.phase is not CLOSED:
            if conn.out is not None:
                return
            if conn.close_after:
                self.linger(conn)
                return
            if conn.body is not None:
                conn.phase = BODY
                return
            conn.phase = IDLE
            conn.deadline = self.idle_deadline
            conn.exchange = None
        if conn.phase is CLOSED and conn.exchange in (FINISHED, None):
            self.close_connection(conn)
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
                self.lose(conn)
        elif conn.half_closed:
            self.close_connection(conn)

    def refuse(self, conn: Connection, refusal: Refusal) -> None:
        """Answer what is not HTTP, or too much of it, and close; nothing behind it is read as a request."""
        exchange = conn.exchange
        conn.reader = conn.body = None
        conn.inbox = b""
        if exchange is not None and conn.phase is RUNNING and not exchange.let_go():
            self.lose(conn)
            return
        conn.exchange = FINISHED
        conn.close_after = conn.refused = True
        if exchange is not FINISHED:
            # Else this is the end of a body that nobody read: its request has its answer.
            with contextlib.suppress(ConnectionLost):
                conn.write(error_response(self.responder, refusal.status, more=refusal.fields)[0])
        self._advance(conn)
