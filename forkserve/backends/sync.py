"""sync: one request at a time, called by the loop itself. The default, and the fastest for code that does not wait."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, ClassVar

from forkserve.backends.alarm import Alarm
from forkserve.backends.base import App, Interface, Run, Traits
from forkserve.backends.serving import HONOURS
from forkserve.backends.wsgi_driver import wsgi_driver
from forkserve.serving.engine.limits import FOREVER
from forkserve.wsgi import WsgiExchange

__all__ = ["Sync"]


class _Inline:
    """Runs an exchange to its end, or until its client reads too slowly, in place."""

    lock: AbstractContextManager[Any] = nullcontext()
    wakes = False
    parks = True
    capacity = 1

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.waiting: Any = None

    def start(self, exchange: WsgiExchange) -> None:
        """Run it in a new context, as another may run before it ends."""
        alarm = self.alarm
        if not alarm.armed:
            alarm.arm()
        exchange.context = context = copy_context()
        alarm.current = exchange
        context.run(exchange.run)
        alarm.current = None

    def resume(self, exchange: WsgiExchange) -> None:
        """Continue where it stopped, unless it waits by itself."""
        if exchange.conn is self.waiting:
            return
        alarm = self.alarm
        if not alarm.armed:
            alarm.arm()
        alarm.current = exchange
        exchange.context.run(exchange.resume)
        alarm.current = None

    def notify(self, exchange: WsgiExchange) -> None:
        """Do nothing: the thread that waits here checks by itself."""

    def interrupt(self, exchange: WsgiExchange) -> bool:
        """Do nothing: an exchange that the loop can see does not run."""
        return False

    def wait(self, conn: Any, until: Callable[[], bool]) -> None:
        """Serve only this connection until it is done: the application cannot be suspended."""
        alarm = self.alarm
        # For the client there is another limit.
        exchange, alarm.current = alarm.current, None
        self.waiting = conn
        try:
            while not until():
                conn.owner.pump(conn)
        finally:
            self.waiting = None
            alarm.current = exchange


class Sync:
    """The loop calls the application."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="one request at a time",
        stops_accepting=True,
        honours=HONOURS,
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        alarm = Alarm(run.options.timeouts.timeout or FOREVER, run.give_up)
        alarm.driver = driver = wsgi_driver(app, listeners, run, _Inline(alarm), alarm=alarm)
        run.ready()
        try:
            driver.run()
        finally:
            alarm.close()
