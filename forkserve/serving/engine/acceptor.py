"""Accepting from the listeners: as far as there is room, and as the policy of their queues says.

Rules: a listener on pause is out of epoll, and comes back when a connection is closed or at a sweep.
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
from forkserve.unix.scoreboard import OwnRecord

__all__ = ["Acceptor"]

LAST = 65_536
"""Connections at which even the last worker accepts no more: clients that come as fast as they are taken never end."""
PAUSE = 0.5
"""Seconds without accepting: the queue keeps the clients, and no CPU is burnt."""


class Acceptor:
    """The listeners of one loop; new connections go to `connections`.

    `begin` takes what came behind a PROXY header, `seat` is where siblings on the same queues are seen, if there are.
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
        self.paused = False
        """Whether a listener is on pause."""
        self._connections = connections
        self._begin = begin
        self._gate = Gate(loop, connections, cap)
        self.policy: QueuePolicy = AcceptAll(self.accept) if seat is None else FairShare(self, seat)
        connections.on_close.append(self._on_close)
        for listening in self.listenings:
            loop.handlers[listening.fd] = functools.partial(self.policy.on_arrival, listening)
            self.watch(listening)

    def watch(self, listening: Listening) -> None:
        """Have epoll tell of arrivals, in the way that the policy says."""
        self.loop.epoll.register(listening.fd, self.policy.events())

    def accept(self, listening: Listening, limit: int = ACCEPTS) -> None:
        """Take at most so many connections from a listener's queue, as far as there is room."""
        if listening.paused_until:
            return
        room = self._gate.room()
        if room:
            self._accept(listening, min(limit, room))
        else:
            self._gate.on_full()
            self.pause(listening)

    def _accept(self, listening: Listening, limit: int) -> bool:
        """Take at most so many, room or not; False when descriptors have run out."""
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
                header = listening.proxy_header
                if header is not None and not header.begin(conn, connections, self._begin):
                    connections.close(conn)
        except OSError as error:
            self._gate.on_exhausted(error)
            self.pause(listening)
            return False
        return True

    def pause(self, listening: Listening) -> None:
        """Accept from this listener no more for now; what waits in its queue stays there, or is a sibling's."""
        if listening.paused_until:
            return
        self.paused = True
        listening.paused_until = self.loop.now + PAUSE
        self.loop.epoll.unregister(listening.fd)
        self.loop.sweep_by(listening.paused_until)

    def sweep(self, now: float) -> None:
        """Accept again from listeners that were paused for long enough."""
        self._gate.sweep(now)
        if self.paused:
            self._resume(now)

    def _on_close(self) -> None:
        self.policy.on_close()
        if self.paused and self._gate.is_open:
            self._resume(FOREVER)

    def _resume(self, now: float) -> None:
        if self.draining:
            return
        self.paused = False
        for listening in self.listenings:
            if listening.paused_until > now:
                self.paused = True
            elif listening.paused_until:
                listening.paused_until = 0.0
                self.watch(listening)

    def begin_drain(self) -> None:
        """Tell siblings that we leave."""
        self.draining = True
        self.policy.on_drain()

    def stop(self, *, alone: bool) -> None:
        """Accept no more; what waits is taken if nobody else will accept it (`alone`)."""
        for listening in self.listenings:
            if alone:
                self._take_last(listening)
            if not listening.paused_until:
                self.loop.epoll.unregister(listening.fd)

    def _take_last(self, listening: Listening) -> None:
        """Take what the kernel has queued, cap or not, and have it refuse the next: nobody else would accept them."""
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
