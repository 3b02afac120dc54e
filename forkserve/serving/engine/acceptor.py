"""Accepting from the listeners: as far as there is room, and as the policy of their queues says.

Theory of operation. A worker that is replaced by another stops accepting at once: what waits belongs to the other. One
that leaves for good (`stop(finish=True)`) first takes what waited in each queue when it began to leave, a batch in each
turn, beside its siblings that do the same; later connections do not keep it.

Rules: a paused listener is not in epoll, and returns when a connection is closed or at a sweep.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Sequence

from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.fair_share import FairShare
from forkserve.serving.engine.gate import Gate
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.listening import ACCEPTS, Listening
from forkserve.serving.engine.phases import READABLE
from forkserve.serving.engine.protocols import EngineLoop
from forkserve.serving.engine.queue_policy import AcceptAll, QueuePolicy
from forkserve.serving.http.refusal import Refusal
from forkserve.unix.counters import CounterField
from forkserve.unix.scoreboard import Order, OwnRecord

__all__ = ["Acceptor"]

SHED = int(CounterField.SHED)
OVERLOADED = Refusal(503, "it has waited in the queue for too long", (("Retry-After", "1"),))
LAST = 65_536
"""Connections after which even the last worker stops accepting: clients that arrive as fast as they are taken
never end.
"""
PAUSE = 0.5
"""Seconds without accepting: the queue keeps the clients, and no CPU time is wasted."""


class Acceptor:
    """The listeners of one loop; new connections go to `connections`.

    `begin` takes what followed a PROXY header, `seat` is where siblings on the same queues are seen, if there are any.
    """

    def __init__(
        self,
        loop: EngineLoop,
        connections: Connections,
        listenings: Sequence[Listening],
        *,
        cap: int,
        seat: OwnRecord | None,
        begin: Callable[[Connection, bytes], None],
    ) -> None:
        self.loop = loop
        self.listenings = tuple(listenings)
        self.held = connections.by_fd
        self.draining = False
        self.on_hold = False
        """Whether nothing is accepted for now, by order of the master."""
        self.paused = False
        """Whether a listener is paused."""
        self._rest: dict[Listening, int] = {}
        """Most connections still to be taken from queues before the worker leaves."""
        self._connections = connections
        self._begin = begin
        self._gate = Gate(loop, connections, cap)
        self._sheds = loop.timeouts.queue_timeout != FOREVER
        self.policy: QueuePolicy = AcceptAll(self.accept) if seat is None else FairShare(self, seat)
        self.on_order: Callable[[bool], object] = lambda _on_hold: None
        """Called when the master has ordered to accept nothing (true), or to accept again."""
        connections.on_close.append(self._on_close)
        for listening in self.listenings:
            loop.handlers[listening.fd] = functools.partial(self.policy.on_arrival, listening)
            self.watch(listening)
        if seat is not None:
            self.obey(seat.order)

    def watch(self, listening: Listening) -> None:
        """Register for arrivals with epoll, as the policy says."""
        self.loop.epoll.register(listening.fd, self.policy.events())

    def accept(self, listening: Listening, limit: int = ACCEPTS) -> None:
        """Accept at most this many connections from a listener's queue, as far as there is room."""
        if listening.paused_until or self.on_hold:
            return
        if self.draining:
            self._finish(listening, limit)
            return
        room = self._gate.room()
        if room:
            self._accept(listening, min(limit, room))
        else:
            self._gate.on_full()
            self.pause(listening)

    def _accept(self, listening: Listening, limit: int) -> bool:
        """Accept at most this many, regardless of room; False if descriptors have run out."""
        connections, epoll = self._connections, self.loop.epoll
        try:
            for sock, peer in listening.accept(limit):
                conn = Connection(self.loop, listening, sock, peer)
                connections.by_fd[conn.fd] = conn
                try:
                    epoll.register(conn.fd, READABLE)
                except OSError:
                    # epoll_ctl(2): ENOSPC and ENOMEM, where the next one may fare no better.
                    connections.close(conn)
                    raise
                if self._sheds and listening.waited(sock) > self.loop.timeouts.queue_timeout:
                    self._shed(conn)
                    continue
                header = listening.proxy_header
                if header is not None and not header.begin(conn, connections, self._begin):
                    connections.close(conn)
        except OSError as error:
            self._gate.on_exhausted(error)
            self.pause(listening)
            return False
        return True

    def _shed(self, conn: Connection) -> None:
        """Answer 503 to a client that has waited too long, and may have left: then those behind it wait less."""
        self.loop.counter.add(SHED)
        if conn.listening.tls is None:
            self._connections.refuse(conn, OVERLOADED)
        else:
            # There is no TLS yet that could tell it.
            self._connections.close(conn)

    def pause(self, listening: Listening) -> None:
        """Accept nothing from this listener for now; what waits in its queue stays there, or goes to a sibling."""
        if listening.paused_until:
            return
        self.paused = True
        listening.paused_until = self.loop.now + PAUSE
        self.loop.epoll.unregister(listening.fd)
        self.loop.sweep_by(listening.paused_until)

    def sweep(self, now: float) -> None:
        """Accept again from listeners that were paused long enough."""
        self._gate.sweep(now)
        if self.paused:
            self._resume(now)

    def _on_close(self) -> None:
        self.policy.on_close()
        if self.paused and self._gate.is_open:
            self._resume(FOREVER)

    def _resume(self, now: float) -> None:
        if self.on_hold:
            return
        self.paused = False
        for listening in self._rest if self.draining else self.listenings:
            if listening.paused_until > now:
                self.paused = True
            elif listening.paused_until:
                listening.paused_until = 0.0
                self.watch(listening)

    def begin_drain(self) -> None:
        """Tell siblings that this worker leaves."""
        self.draining = True
        self.policy.on_drain()

    def obey(self, order: int) -> None:
        """Obey the master: accept nothing for now, or accept again."""
        wanted = order == Order.HOLD
        if wanted is self.on_hold or self.draining:
            return
        self.on_hold = wanted
        for listening in self.listenings:
            if listening.paused_until:
                continue
            if wanted:
                self.loop.epoll.unregister(listening.fd)
            else:
                self.watch(listening)
        self.on_order(wanted)

    def stop(self, *, alone: bool, finish: bool) -> None:
        """Stop accepting; what waits is taken first, at once if no other process can accept it (`alone`)."""
        for listening in self.listenings:
            if alone:
                self._take_last(listening)
            if not (listening.paused_until or self.on_hold):
                self.loop.epoll.unregister(listening.fd)
            waiting = listening.in_queue() if finish and not alone else 0
            if waiting:
                self._rest[listening] = waiting
                self.watch(listening)
            listening.paused_until = 0.0
        self.on_hold = self.paused = False

    @property
    def finishing(self) -> bool:
        """True while something waits that must be taken before the worker leaves; what siblings took is forgotten."""
        for listening in tuple(self._rest):
            if not listening.waiting():
                self._end(listening)
        return bool(self._rest)

    def abandon(self) -> None:
        """Leave what still waits: time is up."""
        for listening in tuple(self._rest):
            self._end(listening)

    def _finish(self, listening: Listening, limit: int) -> None:
        """Take some of what waited when the worker began to leave."""
        rest, waiting, room = self._rest.get(listening, 0), listening.waiting(), self._gate.room()
        if not waiting or not rest:
            self._end(listening)
        elif not room:
            self._gate.on_full()
            self.pause(listening)
        else:
            taking = min(limit, rest, room, waiting if listening.counts else limit)
            if not self._accept(listening, taking):
                return
            if rest == taking:
                self._end(listening)
            else:
                self._rest[listening] = rest - taking

    def _end(self, listening: Listening) -> None:
        if self._rest.pop(listening, 0) and not listening.paused_until:
            self.loop.epoll.unregister(listening.fd)

    def _take_last(self, listening: Listening) -> None:
        """Take what the kernel has queued, regardless of the cap, and let it refuse the next: no other process
        would accept them.
        """
        before = -1
        while before < len(self.held) < LAST:
            before = len(self.held)
            if not self._accept(listening, ACCEPTS):
                break
        with contextlib.suppress(OSError):
            # Closing would not do, since the worker has another descriptor; on Linux this ends listening.
            listening.sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close what the policy has opened."""
        self.policy.close()
