"""The one epoll driver under every backend: the turns of a loop, and the parts that they are made of.

How a backend plugs in ---------------------- `Driver(listenings, service, runner, run)`, where

* each of `listenings` has a profile, which says in which shape header fields are wanted (`forkserve.serving.http`);
* `service.exchange(conn, line, fields)` makes the object of one request (`Exchange` in `protocols.py`): it gets the
  body by `body(data)` and `body_end()`; `lost()` is called if the client leaves while it runs;
* `runner` (`Runner` in `protocols.py`) says how an exchange is run: at once (sync), on a thread, in a greenlet, as the
  first step of a coroutine. It is the only thing in which backends differ.

What it is made of ------------------ `connections` (open ones, and how they end), `acceptor` (listeners), `http1`
(bytes become exchanges), `upkeep` (time limits, draining), `faults` (exceptions), and the queue of ready descriptors,
which calls them. Each knows those before it, and the loop by a protocol. `http1.py` says when an exchange is started.

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

import time
from collections import deque
from collections.abc import Callable, MutableSet, Sequence
from dataclasses import dataclass, field
from typing import Any

from forkserve.serving.counted import RequestCounter
from forkserve.serving.engine.acceptor import Acceptor
from forkserve.serving.engine.access import AccessLog
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.counting import Uncounted
from forkserve.serving.engine.dispatch import ready_queue
from forkserve.serving.engine.faults import Faults
from forkserve.serving.engine.gate import cap_of
from forkserve.serving.engine.http1 import Factory, Http1
from forkserve.serving.engine.lifetime import limited_start
from forkserve.serving.engine.limits import tick_of
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.memory import Memory
from forkserve.serving.engine.native import epoll, poll
from forkserve.serving.engine.phases import READABLE
from forkserve.serving.engine.protocols import Leftover, Runner
from forkserve.serving.engine.queue_policy import TURN
from forkserve.serving.engine.refusals import Refusals
from forkserve.serving.engine.upkeep import Parts, Serving, Turns, Upkeep
from forkserve.serving.engine.wakeup import Wakeup
from forkserve.serving.http.response import Responder

__all__ = ["LOG_DELAY", "Driver", "Runner", "Service"]

LOG_DELAY = 0.05
"""Seconds that lines of the access log wait for others."""
PULSE = 1.0
"""Most seconds between two signs of life of a loop that waits for one client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a driver serves.

    `exchange` makes the object of one request. `start` runs it, by default `runner.start`. `wakeup` is how the access
    log wakes the loop, if it has to; `counter` counts requests, if anything does. `turns` is called when serving begins
    to end.
    """

    exchange: Factory
    responder: Responder
    wakeup: Wakeup
    start: Callable[[Any], None] | None = None
    access: AccessLog | None = None
    counter: RequestCounter | None = None
    turns: Turns = field(default_factory=Turns)


class Driver:
    """Serves the listeners until drained; see the module's docstring for how a backend takes part."""

    def __init__(
        self,
        listenings: Sequence[Listening],
        service: Service,
        runner: Runner,
        run: Serving,
        queue: Callable[..., Any] = ready_queue,
    ) -> None:
        self.epoll = epoll()
        self.http_limits = run.options.http.effective()
        self.timeouts = run.options.timeouts.effective()
        self.tick = tick_of(run.options.timeouts)
        self.lock = runner.lock
        self.handlers: dict[int, Callable[[], None]] = {}
        self.in_child: list[Callable[[], object]] = []
        """What is to be done in a process that the application forks."""
        self.moved = 0.0
        self.now = time.monotonic()
        self.idle_deadline = self.now + self.timeouts.keep_alive
        self._next_sweep = self._swept = self.now
        self._todo: deque[Connection] = deque()
        self._runner = runner
        self.counter: RequestCounter = service.counter or Uncounted()
        self.in_child.append(self.counter.close)
        self._wakeup = service.wakeup
        self._watch(service.wakeup.fd, service.wakeup.clear)
        self._compose(listenings, service, run)
        self.ready_queue = queue(self, self._http1, self.connections.by_fd, self.faults.of)
        self._watch(run.drain_fd, self._upkeep.begin_drain)
        self._access = service.access
        self.noted: list[str] | tuple[()] = () if service.access is None else service.access.lines
        """Lines of the access log that are to be written in a coming turn."""
        self._write_at = self.now

    def _compose(self, listenings: Sequence[Listening], service: Service, run: Serving) -> None:
        """Create the parts, each from those before it."""
        runner, http, life = self._runner, run.options.http, run.options.lifetime
        start = service.start or runner.start
        self.connections = connections = Connections(self, runner, service.responder, Refusals(self, service.access))
        memory = Memory(self, connections, http.request_memory)
        self.leftovers: MutableSet[Leftover] = memory.leftovers
        self._http1 = http1 = Http1(
            self,
            connections,
            memory,
            exchange=service.exchange,
            runner=runner,
            start=limited_start(life, start, leave=self._leave, warm=run.on_warm),
        )
        self.acceptor = acceptor = Acceptor(
            self, connections, listenings, cap=cap_of(http.max_connections), seat=run.seat, begin=http1.take
        )
        self._policy = acceptor.policy
        self.faults = faults = Faults(connections, acceptor, runner)
        parts = Parts(
            connections=connections,
            acceptor=acceptor,
            memory=memory,
            faults=faults,
            runner=runner,
            responder=service.responder,
        )
        self._upkeep = Upkeep(self, run, parts, service.turns)

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler
        self.epoll.register(fd, READABLE)

    def fileno(self) -> int:
        """Return the descriptor that an outer loop watches for reading."""
        return self.epoll.fileno()

    def run(self) -> None:
        """Serve until drained, without another loop."""
        while not self.drained:
            self.ready(self.timeout())
        self.close()

    def close(self) -> None:
        """Drop what is left, and close the driver's own descriptors."""
        self.connections.lose_all()
        self.connections.refusals.close()
        self.acceptor.close()
        self.epoll.close()
        self._wakeup.close()
        self.close_log()

    def close_log(self) -> None:
        """Write the remaining lines of the access log, and close its file."""
        if self._access is not None:
            self._access.close()

    def ready(self, timeout: float | None = 0.0) -> None:
        """Handle one batch of everything that is ready; wait for it at most `timeout` seconds (None: for ever)."""
        queue, policy = self.ready_queue, self._policy
        now = self.now
        try:
            self.now = self.counter.turn = now = queue.wait(timeout)
            policy.turn_clock[TURN] = now
            if now >= self._next_sweep:
                self._next_sweep = self._upkeep.sweep(now, now - self._next_sweep)
                self._swept = now
            self.idle_deadline = now + self.timeouts.keep_alive
            self._http1.run_deadline = now + self.timeouts.timeout
            queue.serve()
            if self._todo or policy.unsettled or (self.noted and now >= self._write_at):
                self._end_turn()
        except BaseException as error:  # noqa: BLE001 - the fault barrier of the loop
            self.faults.of_turn(error)
        policy.turn_clock[TURN] = -now

    def timeout(self) -> float | None:
        """Return in how many seconds `ready` is due at the latest; None if nothing has a time limit.

        After each turn another check is due, for what the application may have done in it.
        """
        if self.noted:
            return LOG_DELAY
        if self.connections.by_fd or self._upkeep.busy or self.now > self._swept:
            return max(0.0, self._next_sweep - time.monotonic())
        self.counter.reconcile(0)
        return None

    def sweep_by(self, instant: float) -> None:
        """Schedule the next sweep no later than this."""
        self._next_sweep = min(self._next_sweep, instant)

    def later(self, conn: Connection) -> None:
        """Let the loop continue a connection whose exchange has ended; may be called from a thread."""
        self._todo.append(conn)
        if self._runner.wakes:
            self._wakeup.ring()

    def _end_turn(self) -> None:
        """Continue connections whose exchange has ended; one round, so that no pipeline starves others."""
        if self._access is not None and self.now >= self._write_at:
            self._write_at = self.now + LOG_DELAY
            self._access.flush()
        for _ in range(len(self._todo)):
            conn = self._todo.popleft()
            try:
                self._http1.advance(conn)
            except BaseException as error:  # noqa: BLE001 - the fault barrier of one connection
                self.faults.of(conn.fd, error)
        if self._policy.unsettled:
            self._policy.rebalance()
        if self._todo:
            self._wakeup.ring()

    def pump(self, conn: Connection) -> None:
        """Wait for the next event of this connection and handle it, while the application blocks the loop."""
        poller = poll()
        poller.register(conn.fd, conn.events)
        ready = poller.poll(max(0, min(conn.deadline - self.now, PULSE)) * 1000)
        self.now = time.monotonic()
        self.counter.beat(self.now)
        if conn.deadline <= self.now:
            self.connections.lose(conn)
        elif ready:
            self._http1.handle(conn, ready[0][1])

    def _leave(self, reason: str) -> None:
        self._upkeep.leave(reason)

    @property
    def drained(self) -> bool:
        """True when draining was requested and nothing is left to answer."""
        acceptor = self.acceptor
        return acceptor.draining and not self.connections.by_fd and not acceptor.finishing
