"""gevent: the driver nested in gevent's hub, a greenlet for each request, none for an idle connection.

Rules: the standard library is patched for the application before it is imported, but not for the engine: the driver
works with the kernel's own epoll and sockets, and gevent's loop watches its descriptor. The library is imported in
`serve` alone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Run, Traits
from forkserve.backends.serving import HONOURS
from forkserve.backends.watchdog import LoopWatch
from forkserve.backends.wsgi_driver import wsgi_driver
from forkserve.serving.ends import End
from forkserve.serving.engine.driver import LOG_DELAY, Driver
from forkserve.serving.failure import log_overdue
from forkserve.wsgi import WsgiExchange

__all__ = ["Gevent"]


class _Greenlets:
    """Runs each exchange in a greenlet; everything here is called in the hub, except `wait`."""

    lock: AbstractContextManager[Any] = nullcontext()
    parks = False
    capacity = 0

    def __init__(self, limit: int) -> None:
        # These import gevent.
        from gevent import getcurrent

        from forkserve.backends.greenlets import Pool, where

        self.current = getcurrent
        self.place = where
        self.pool = Pool(limit)
        self.start = self.pool.start
        self.hub = self.pool.hub
        self.wakes = True
        self.waiting: dict[Any, Any] = {}

    def resume(self, exchange: WsgiExchange) -> None:
        """Wake the greenlet, if it waits for its client."""
        if exchange.conn in self.waiting:
            self.hub.loop.run_callback(self._wake, exchange.conn)

    notify = resume

    def _wake(self, conn: Any) -> None:
        # It may have been interrupted meanwhile, and be at a place that expects no wake-up.
        green = self.waiting.get(conn)
        if green is not None:
            green.switch()

    def wait(self, conn: Any, until: Callable[[], bool]) -> None:
        """Let others run until the client has done its part."""
        self.waiting[conn] = self.current()
        try:
            while not until():
                self.hub.switch()
        finally:
            del self.waiting[conn]

    def forked(self) -> None:
        """Called in a process that the application has forked: no other request continues there."""
        self.waiting.clear()
        self.pool.hold_still()

    def interrupt(self, exchange: WsgiExchange) -> bool:
        """Raise TimedOut where the greenlet waits, or answer for a request that no greenlet has taken."""
        if self.pool.withdraw(exchange):
            exchange.end(End.UNSTARTED)
            return True
        green: Any = exchange.context
        log_overdue(exchange.line.method, exchange.line.path, green.gr_frame)
        self.pool.interrupt(exchange)
        return True


class _HubTurns:
    """Turns of the driver in gevent's hub, and what starts one; `drained` is set after the last."""

    def __init__(self, driver: Driver, runner: _Greenlets) -> None:
        from gevent.event import Event

        self.drained = Event()
        self._driver = driver
        self._runner = runner
        loop = runner.hub.loop
        readable, timer = loop.io(driver.fileno(), 1), loop.timer(driver.tick, driver.tick)
        self._soon, self.asked = loop.timer(LOG_DELAY), loop.async_()
        self._watchers = (readable, timer, self._soon, self.asked)
        readable.start(self._turn)
        timer.start(self._turn)

    def _turn(self) -> None:
        # What ends in here is seen at the turn's end; what ends between turns has to ask for one.
        driver, runner = self._driver, self._runner
        runner.wakes = False
        try:
            driver.ready()
        finally:
            runner.wakes = True
        if driver.noted and not self._soon.active:
            self._soon.start(self._turn)
        if driver.drained:
            runner.pool.close()
            self.drained.set()

    def in_child(self) -> None:
        """Called in a process that the application has forked: what is left of the hub is the child's."""
        self.close()
        self._runner.forked()

    def close(self) -> None:
        """Prevent further turns."""
        for each in self._watchers:
            each.close()


class Gevent:
    """The driver in gevent's hub."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="a greenlet for each request that runs",
        monkey_patches=True,
        stops_accepting=True,
        honours=HONOURS | {"spawn"},
        requires=("gevent",),
        install="pip install gevent",
        imports=("forkserve.backends.alarm", "forkserve.backends.greenlets", "gevent.event"),
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        from forkserve.backends.greenlets import keep_statuses

        runner = _Greenlets(run.options.concurrency.spawn)
        driver = wsgi_driver(app, listeners, run, runner)
        # gevent does it at the first fork, which is too late for a child that ends at once.
        runner.hub.loop.install_sigchld()
        turns = _HubTurns(driver, runner)
        statuses = keep_statuses(runner.hub.loop)
        watch = LoopWatch(driver, ask=lambda _: turns.asked.send(), place=runner.place, give_up=run.give_up)
        turns.asked.start(watch.answer)
        watch.arm()
        driver.in_child.append(turns.in_child)
        run.ready()
        try:
            turns.drained.wait()
        finally:
            watch.close()
            turns.close()
            statuses.close()
            driver.close()
