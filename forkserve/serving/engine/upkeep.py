"""What the driver does besides serving, every second or so: time limits, the clock, paused listeners, draining.

Rules: one scan over all connections instead of a timer for each. A thousand connections cost a tenth of a millisecond
a second; a request costs only its assignment to `deadline`. The deadline of a drain is the run's, and only read here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from forkserve.config.serving import ServingOptions
from forkserve.serving.ends import End
from forkserve.serving.engine.acceptor import Acceptor
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.faults import Faults
from forkserve.serving.engine.lifetime import LifetimeWatch
from forkserve.serving.engine.limits import FOREVER, GRACE
from forkserve.serving.engine.memory import Memory
from forkserve.serving.engine.phases import Phase
from forkserve.serving.engine.protocols import FINISHED, EngineLoop, Runner
from forkserve.serving.engine.stacks import all_stacks
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.response import Responder
from forkserve.unix.scoreboard import Order, OwnRecord

__all__ = ["Parts", "Serving", "Turns", "Upkeep"]

log = logging.getLogger("forkserve.engine")

LATE = 0.1
"""Seconds by which a check may be late without an effect on deadlines."""
LAST_CALL = 1.0
"""Seconds after the start of draining in which a kept connection may still send a request, which is answered."""
DRAIN_TICK = 0.25
"""Most seconds between two sweeps while draining: only connections keep the worker, and each may be due."""


class Serving(Protocol):
    """What the driver needs of the run that it serves in; `forkserve.backends.base.Run` is one."""

    options: ServingOptions
    server: str
    drain_fd: int
    drain_deadline: float
    alone: Callable[[], bool]
    seat: OwnRecord | None
    hurried: bool
    say: Callable[[str], object]
    hold_signals: Callable[[], object]
    on_warm: Callable[[], object]

    def drain(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Callbacks: `keep` gets whether responses keep their connections, `drain` is called when draining begins, `hurry`
    when little time is left.
    """

    keep: Callable[[bool], object] = lambda _wanted: None
    drain: Callable[[], object] = lambda: None
    hurry: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts to maintain."""

    connections: Connections
    acceptor: Acceptor
    memory: Memory
    faults: Faults
    runner: Runner
    responder: Responder


class Upkeep:
    """The regular work of one driver."""

    def __init__(self, loop: EngineLoop, run: Serving, parts: Parts, turns: Turns) -> None:
        self._loop = loop
        self._run = run
        self._parts = parts
        self._connections = parts.connections
        self._acceptor = parts.acceptor
        self._turns = turns
        self._hurried = False
        self._said = ""
        parts.acceptor.on_order = self._on_order
        self._lifetime = LifetimeWatch(run.options.lifetime, loop.now)
        if parts.acceptor.on_hold:
            self._on_order(True)

    @property
    def busy(self) -> bool:
        """True if there is work although there is no connection."""
        acceptor = self._acceptor
        if acceptor.paused or acceptor.draining or acceptor.on_hold or self._lifetime.limited:
            return True
        return self._connections.refusals.untold > 0

    def sweep(self, now: float, late: float) -> float:
        """Do what is due, this many seconds late; returns the instant of the next sweep."""
        parts = self._parts
        self._run.hold_signals()
        parts.responder.tick(time.time())
        self._excuse(late)
        for conn in [conn for conn in self._connections.values() if conn.deadline <= now]:
            try:
                self._expire(conn)
            except BaseException as error:  # noqa: BLE001 - the fault barrier of one connection
                parts.faults.of(conn.fd, error)
        self._loop.counter.reconcile(sum(_runs(conn) for conn in self._connections.values()))
        self._acceptor.sweep(now)
        parts.memory.sweep()
        self._connections.refusals.sweep(now)
        if not self._acceptor.draining and (reason := self._lifetime.reason(now)):
            self.leave(reason)
        if self._acceptor.draining or self._acceptor.on_hold:
            self._last_call(now)
            self._tell()
        if self._run.hurried and not self._hurried:
            self._hurried = True
            self._turns.hurry()
        if now >= self._run.drain_deadline:
            self._acceptor.abandon()
            self._connections.lose_all()
        return now + (min(self._loop.tick, DRAIN_TICK) if self._acceptor.draining else self._loop.tick)

    def _excuse(self, late: float) -> None:
        """Move all deadlines by the time without checks, because of a stop (SIGSTOP) or an application that blocked the
        loop.

        What arrived meanwhile was not read, and what should have run may not have.
        """
        if late > max(LATE, self._loop.tick):
            for conn in self._connections.values():
                conn.deadline += late

    def _expire(self, conn: Connection) -> None:
        if conn.phase in (Phase.HEAD, Phase.BODY) and conn.out is None:
            self._connections.refuse(conn, Refusal(408, "the request did not come in time"))
        elif conn.exchange is FINISHED or conn.out is not None or conn.awaits_client or conn.phase is not Phase.RUNNING:
            self._connections.lose(conn)
        else:
            self._overdue(conn)

    def _overdue(self, conn: Connection) -> None:
        """Interrupt a request that takes too long; if that does not help, end the worker."""
        loop, exchange = self._loop, conn.exchange
        if exchange is None:
            return
        if conn.interrupted is not exchange and self._parts.runner.interrupt(exchange):
            conn.interrupted = exchange
            conn.deadline = loop.now + min(loop.timeouts.timeout, GRACE)
            return
        log.error("a request cannot be ended; this worker ends and is replaced:\n%s", all_stacks())
        conn.deadline = FOREVER
        exchange.end(End.STUCK)
        self._run.drain("a request is stuck")

    def leave(self, reason: str) -> None:
        """Start draining without a request for it, at once: the current response already closes its connection."""
        self._run.drain(reason)
        self.begin_drain()

    def begin_drain(self) -> None:
        """Stop accepting; accepted requests are answered, kept connections get a last chance."""
        loop, run = self._loop, self._run
        if self._acceptor.draining:
            return
        self._acceptor.begin_drain()
        self._turns.keep(False)
        self._turns.drain()
        self._connections.hasten()
        loop.epoll.unregister(run.drain_fd)
        self._acceptor.stop(alone=run.alone(), finish=run.seat is not None and run.seat.order == Order.FINISH)
        self._last_call(loop.now)
        self._tell()
        loop.sweep_by(loop.now)

    def _on_order(self, on_hold: bool) -> None:
        """Called when the master has ordered to accept nothing, or to accept again."""
        self._turns.keep(not on_hold)
        if on_hold:
            self._last_call(self._loop.now)
        self._tell()
        self._loop.sweep_by(self._loop.now)

    def _tell(self) -> None:
        """Report the progress of draining, if it has changed."""
        held = len(self._connections)
        if self._acceptor.draining:
            status = "draining, takes what waits in the queue first" if self._acceptor.finishing else "draining"
        else:
            status = "accepts nothing" if self._acceptor.on_hold else ""
        if status and held:
            status = f"{status}, {held} connections open"
        if status != self._said:
            self._said = status
            self._run.say(status)

    def _last_call(self, now: float) -> None:
        """Close all idle connections; again at each sweep, since one may have become idle on a thread meanwhile."""
        for conn in self._connections.values():
            if conn.phase in (Phase.IDLE, Phase.FIRST_BYTE):
                conn.deadline = min(conn.deadline, now + LAST_CALL)


def _runs(conn: Connection) -> bool:
    """Tell whether a request runs on a connection; a WebSocket is no longer one."""
    return conn.exchange is not None and conn.exchange is not FINISHED and conn.receive is None
