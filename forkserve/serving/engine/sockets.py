"""The sockets under the driver: epoll, accepting, and the ways in which a connection ends.

Rules: a connection is closed here and nowhere else. Whoever is answered and then closed is read from for a while
longer, so that the answer is not lost to a reset (RFC 9112 section 9.6).
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forkserve.serving.engine.connection import FINISHED, READABLE, Connection, Phase
from forkserve.serving.engine.faults import Faults
from forkserve.serving.engine.files import FilePart
from forkserve.serving.engine.gate import Gate, cap_of
from forkserve.serving.engine.limits import Limits
from forkserve.serving.engine.listening import ACCEPTS, Listening
from forkserve.serving.engine.memory import Memory
from forkserve.serving.engine.native import epoll, poll
from forkserve.serving.engine.share import UNSEEN, Share
from forkserve.serving.engine.upkeep import Serving, Upkeep
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.response import Responder

__all__ = ["Runner", "Sockets"]

LINGER = 2.0
"""Seconds in which a client may still read the reply that closes its connection."""
LAST = 65_536
"""Connections at which even the last worker accepts no more: those who come as fast as they are taken never end."""
IDLE, RUNNING, LINGERING, CLOSED = Phase.IDLE, Phase.RUNNING, Phase.LINGERING, Phase.CLOSED


class Runner(Protocol):
    """How exchanges are run."""

    lock: contextlib.AbstractContextManager[Any]
    """Guards the queue of a connection; a real lock only where threads write."""
    wakes: bool
    """Whether exchanges may end while the loop waits."""

    def start(self, exchange: Any) -> None:
        """Run an exchange."""

    def resume(self, exchange: Any) -> None:
        """Go on with an exchange that is parked: its client has read, or has gone."""

    def notify(self, exchange: Any) -> None:
        """Know that an exchange was given the end of its body, or was lost, while it runs: it may wait for that."""

    def interrupt(self, exchange: Any) -> bool:
        """End an exchange that takes too long; False when it cannot be ended, so that the worker has to be replaced."""


class Sockets:
    """The connections of a driver, its epoll, and how a connection begins and ends."""

    def __init__(self, listenings: Sequence[Listening], limits: Limits, runner: Runner, run: Serving) -> None:
        self.epoll = epoll()
        self.limits = limits
        self.runner = runner
        self.lock = runner.lock
        self.connections: dict[int, Connection] = {}
        self.handlers: dict[int, Callable[[], None]] = {}
        self.listenings = tuple(listenings)
        self.todo: deque[Connection] = deque()
        self.now = time.monotonic()
        self.next_sweep = self.now
        self.idle_deadline = self.now + limits.keep_alive
        self.draining = False
        self.in_child: list[Callable[[], object]] = []
        """What is to be done in a process that the application forks."""
        self.moved = 0.0
        """Changes whenever a response that has begun goes on."""
        self.responder = Responder(time.time(), run.server)
        self.upkeep = Upkeep(self, run)
        self.wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.handlers[self.wakeup] = self._awake
        self.epoll.register(self.wakeup, READABLE)
        self.handlers[run.drain_fd] = self.upkeep.begin_drain
        self.epoll.register(run.drain_fd, READABLE)
        self.faults = Faults(self)
        self.gate = Gate(self, cap_of(run.options.http.max_connections))
        self.memory = Memory(self, run.options.http.request_memory)
        self.mark = UNSEEN
        """Where a turn's begin and end are noted."""
        self.unsettled = 0
        """Turns until it is looked whether we still may accept; 0 when nothing has changed."""
        self.share = None if run.seat is None else Share(self, run.seat)
        for listening in self.listenings:
            arrived = self.accept if self.share is None else self.share.arrived
            self.handlers[listening.fd] = functools.partial(arrived, listening)
            self.watch_listener(listening)

    def take(self, conn: Connection, data: bytes) -> None:
        """Take bytes of a request."""
        raise NotImplementedError

    def handle(self, conn: Connection, event: int) -> None:
        """Do what a connection's event asks for."""
        raise NotImplementedError

    def refuse(self, conn: Connection, refusal: Refusal) -> None:
        """Answer with an error and close."""
        raise NotImplementedError

    def later(self, conn: Connection) -> None:
        """Have the loop look at a connection whose exchange has ended; may be called from a thread."""
        self.todo.append(conn)
        if self.runner.wakes:
            self.wake()

    def wake(self) -> None:
        """Have the loop take a turn; may be called from a thread."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self.wakeup, 1)

    def linger(self, conn: Connection) -> None:
        """Close so that the reply is not lost: a reset follows unread bytes, so read them first (RFC 9112 9.6)."""
        conn.phase = LINGERING
        conn.deadline = self.now + LINGER
        if conn.half_closed or (not conn.refused and self._is_read_up(conn)):
            self.part(conn)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.watch(READABLE)
        except OSError:
            self.close_connection(conn)

    def _is_read_up(self, conn: Connection) -> bool:
        """Tell whether nothing more has come: then closing resets nothing."""
        try:
            return not conn.inbox and not conn.recv(1)
        except OSError:
            return True

    def part(self, conn: Connection) -> None:
        """Close where all is said; under TLS the client is told, or it takes the end for a cut (RFC 8446 6.1)."""
        if not conn.raw:
            with contextlib.suppress(OSError):
                conn.sock.shutdown(socket.SHUT_WR)
        self.close_connection(conn)

    def lose(self, conn: Connection) -> None:
        """Give a connection up; an exchange that runs is told, and ends first."""
        if conn.phase is IDLE and conn.exchange is None:
            self.part(conn)
            return
        running = conn.phase is RUNNING or conn.phase is CLOSED
        conn.phase = CLOSED
        exchange = conn.exchange
        if exchange is not None:
            exchange.lost()
        if exchange is None or exchange is FINISHED or not running:
            self.close_connection(conn)
            return
        conn.forget_events()
        if conn.parked:
            conn.parked = False
            self.runner.resume(exchange)
        else:
            self.runner.notify(exchange)

    def close_connection(self, conn: Connection) -> None:
        """Close and forget."""
        conn.phase = CLOSED
        if self.connections.get(conn.fd) is conn:
            del self.connections[conn.fd]
            if self.share is not None and self.share.siblings:
                self.share.lost()
            if self.gate.shut:
                self.gate.freed()
        for data in conn.out or ():
            if type(data) is FilePart:
                data.close()
        conn.reader = conn.body = conn.out = conn.exchange = conn.interrupted = conn.receive = None
        conn.sock.close()

    def pump(self, conn: Connection) -> None:
        """Do the next thing for one connection alone, waiting for it: for an application that the loop cannot leave."""
        poller = poll()
        poller.register(conn.fd, conn.events)
        for _, event in poller.poll(max(0, min(conn.deadline - self.now, 3600)) * 1000):
            self.handle(conn, event)
            return
        self.now = time.monotonic()
        if conn.deadline <= self.now:
            self.lose(conn)

    def watch_listener(self, listening: Listening) -> None:
        """Accept from a listener; of the workers on one queue the kernel wakes one (EPOLLEXCLUSIVE, Linux 4.5)."""
        events = READABLE | select.EPOLLEXCLUSIVE if self.share is None else self.share.events()
        self.epoll.register(listening.fd, events)

    def accept(self, listening: Listening, limit: int = ACCEPTS) -> None:
        """Take at most so many connections from a listener's queue, as far as there is room."""
        if listening.paused_until:
            return
        room = self.gate.room()
        if room:
            self._accept(listening, min(limit, room))
        else:
            self.gate.fill(listening)

    def _accept(self, listening: Listening, limit: int) -> bool:
        """Take at most so many, room or not; False when descriptors have run out."""
        try:
            for sock, peer in listening.accept(limit):
                conn = Connection(self, listening, sock, peer)
                self.connections[conn.fd] = conn
                try:
                    self.epoll.register(conn.fd, READABLE)
                except OSError:
                    # epoll_ctl(2): ENOSPC and ENOMEM, where the next one may fare no better.
                    self.close_connection(conn)
                    raise
                if listening.preface is not None and not listening.preface.begin(conn, self.take):
                    self.close_connection(conn)
        except OSError as error:
            self.gate.exhaust(listening, error)
            return False
        return True

    def take_last(self, listening: Listening) -> None:
        """Take what the kernel has queued, cap or not, and have it refuse the next: nobody else would accept them."""
        before = -1
        while before < len(self.connections) < LAST:
            before = len(self.connections)
            if not self._accept(listening, ACCEPTS):
                break
        with contextlib.suppress(OSError):
            # Closing would not do, since the worker has a descriptor of its own; on Linux this ends listening.
            listening.sock.shutdown(socket.SHUT_RD)

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wakeup)

    @property
    def drained(self) -> bool:
        """True when draining was asked for and nothing is left to answer."""
        return self.draining and not self.connections

    def close(self) -> None:
        """Close what is the driver's own."""
        for conn in list(self.connections.values()):
            self.lose(conn)
        if self.share is not None:
            self.share.close()
        self.epoll.close()
        os.close(self.wakeup)
