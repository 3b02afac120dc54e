"""What the driver does besides serving, every second or so: time limits, the clock, listeners on pause, draining.

Rules: one look over all connections instead of a timer for each. A thousand connections cost a tenth of a millisecond
a second; a request costs nothing but its assignment to `deadline`.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from forkserve.config.serving import ServingOptions
from forkserve.serving.engine.connection import FINISHED, Connection, Phase
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.stacks import all_stacks
from forkserve.serving.http.refusal import Refusal
from forkserve.unix.scoreboard import Seat

if TYPE_CHECKING:
    from forkserve.serving.engine.sockets import Sockets

__all__ = ["Counted", "Serving", "Upkeep"]

log = logging.getLogger("forkserve.engine")

PAGE = os.sysconf("SC_PAGE_SIZE")
GRACE = 2.0
"""Seconds in which an interrupted request has to end."""
LATE = 0.1
"""Seconds by which a look may be late without an effect on deadlines."""
LAST_CALL = 1.0
"""Seconds after the begin of draining in which a kept connection may still bring a request, which is then answered."""


class Serving(Protocol):
    """What the driver needs to know of the run that it serves in; `forkserve.backends.base.Run` is one."""

    options: ServingOptions
    server: str
    drain_fd: int
    drain_deadline: float
    alone: Callable[[], bool]
    seat: Seat | None

    def drain(self, reason: str) -> None: ...


class Counted:
    """Starts exchanges until there were enough; the last may close its connection already."""

    __slots__ = ("_left", "_limit", "_start", "_upkeep")

    def __init__(self, upkeep: Upkeep, start: Callable[[Any], None]) -> None:
        life = upkeep.run.options.lifetime
        self._limit = life.max_requests + random.randint(0, life.max_requests_jitter)
        self._left = itertools.count(self._limit - 1, -1)
        self._start = start
        self._upkeep = upkeep

    def __call__(self, exchange: Any) -> None:
        """Start one."""
        if next(self._left) == 0:
            self._upkeep.leave(f"{self._limit} requests served")
        self._start(exchange)


class Upkeep:
    """The regular work of one driver."""

    def __init__(self, driver: Sockets, run: Serving) -> None:
        self.driver = driver
        self.run = run
        life = run.options.lifetime
        # Not all workers of one start together: up to a tenth later.
        self.leave_at = driver.now + life.max_lifetime * random.uniform(1.0, 1.1) if life.max_lifetime else FOREVER
        self.on_drain: list[Callable[[], None]] = []

    def counted(self, start: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return `start` itself, or one that has the worker leave after `max_requests`."""
        return Counted(self, start) if self.run.options.lifetime.max_requests else start

    def leave(self, reason: str) -> None:
        """Drain of our own accord, at once: the response that is under way already closes its connection."""
        self.run.drain(reason)
        self.begin_drain()

    @property
    def busy(self) -> bool:
        """True when there is something to do though there is no connection."""
        life = self.run.options.lifetime
        return self.driver.gate.shut or self.driver.draining or bool(life.max_lifetime or life.max_rss)

    def sweep(self, now: float) -> float:
        """Do what is due; returns the instant of the next time."""
        driver = self.driver
        driver.responder.tick(time.time())
        self._excuse(now - driver.next_sweep)
        late = [conn for conn in driver.connections.values() if conn.deadline <= now]
        for conn in late:
            try:
                self._expire(conn)
            except BaseException as error:  # noqa: BLE001 - the fault barrier of one connection
                driver.faults.of(conn.fd, error)
        driver.gate.sweep(now)
        driver.memory.sweep()
        self._live(now)
        if driver.draining:
            self._last_call(now)
        if now >= self.run.drain_deadline:
            for conn in list(driver.connections.values()):
                driver.lose(conn)
        return now + driver.limits.tick

    def _excuse(self, late: float) -> None:
        """Move all deadlines by the time for which we did not look, stopped (SIGSTOP) or held by the application.

        What has come in it was not read, and what should have run may not have.
        """
        if late > max(LATE, self.driver.limits.tick):
            for conn in self.driver.connections.values():
                conn.deadline += late

    def _live(self, now: float) -> None:
        life = self.run.options.lifetime
        if self.driver.draining:
            return
        if now >= self.leave_at:
            self.leave(f"it has served for {life.max_lifetime:g} s")
        elif life.max_rss and resident() > life.max_rss:
            self.leave(f"it has more than {life.max_rss} bytes resident")

    def _expire(self, conn: Connection) -> None:
        driver = self.driver
        if conn.phase in (Phase.HEAD, Phase.BODY) and conn.out is None:
            driver.refuse(conn, Refusal(408, "the request did not come in time"))
        elif conn.exchange is FINISHED or conn.out is not None or conn.awaits_client or conn.phase is not Phase.RUNNING:
            driver.lose(conn)
        else:
            self._overdue(conn)

    def _overdue(self, conn: Connection) -> None:
        """End a request that takes too long: once politely, and if that does not help, with the worker."""
        driver, exchange = self.driver, conn.exchange
        if exchange is None:
            return
        if conn.interrupted is not exchange and driver.runner.interrupt(exchange):
            conn.interrupted = exchange
            conn.deadline = driver.now + min(driver.limits.run, GRACE)
            return
        log.error("a request cannot be ended; this worker leaves, for another to take its place:\n%s", all_stacks())
        conn.deadline = FOREVER
        exchange.abandon(504)
        self.run.drain("a request is stuck")

    def begin_drain(self) -> None:
        """Stop accepting; what was accepted is answered, kept connections get a last call."""
        driver = self.driver
        if driver.draining:
            return
        driver.draining = True
        for act in self.on_drain:
            act()
        driver.epoll.unregister(self.run.drain_fd)
        alone = self.run.alone()
        for listening in driver.listenings:
            if alone:
                driver.take_last(listening)
            if not listening.paused_until:
                driver.epoll.unregister(listening.fd)
        self._last_call(driver.now)
        driver.next_sweep = driver.now

    def _last_call(self, now: float) -> None:
        """Let no idle connection stay; again at each sweep, since one may have become idle on a thread meanwhile."""
        for conn in self.driver.connections.values():
            if conn.phase in (Phase.IDLE, Phase.FIRST_BYTE):
                conn.deadline = min(conn.deadline, now + LAST_CALL)


def resident() -> int:
    """Return the bytes of this process that are in memory: second in /proc/self/statm, in pages (proc(5)).

    0 when it cannot be read.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        # Descriptors have run out; there is a next time.
        return 0
