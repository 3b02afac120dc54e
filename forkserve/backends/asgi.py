"""asgi: the driver nested in asyncio or uvloop, a task for each request, stepped at once.

Rules: the loop watches one descriptor, the driver's epoll, so that one callback serves all connections that are ready.
asyncio never sees the sockets, so it does not replace the backlog that the master has set. Since the loop has so little
to do, asyncio's own is faster here than uvloop (CPU of a hello world: 30 to 35), and is the meaning of `--loop auto`;
an application with much network I/O may gain by `--loop uvloop`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import socket
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Run, Traits
from forkserve.backends.looping import loop_factory
from forkserve.backends.serving import HONOURS, open_access_log, prepare_listenings, tls_of, trusted_by
from forkserve.backends.watchdog import Watchdog
from forkserve.config.options import names_of
from forkserve.config.serving import AsgiOptions
from forkserve.serving.asgi.context import AsgiServingContext
from forkserve.serving.asgi.eager_tasks import eager_task_factory
from forkserve.serving.asgi.factory import exchange_factory
from forkserve.serving.asgi.forwarding import AsgiForwarding
from forkserve.serving.asgi.lifespan import Lifespan
from forkserve.serving.asgi.scope import ScopeTemplate, http_scope
from forkserve.serving.ends import End
from forkserve.serving.engine.counting import counter_of
from forkserve.serving.engine.driver import LOG_DELAY, Driver, Service
from forkserve.serving.engine.forks import failing_ends_child, isolate_forked_children
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.upkeep import Turns
from forkserve.serving.engine.wakeup import Wakeup
from forkserve.serving.failure import log_waiting
from forkserve.serving.http.fields import ScopeCollector
from forkserve.serving.http.request import Profile
from forkserve.serving.http.response import Responder
from forkserve.serving.parser import reader_of

__all__ = ["Asgi"]

log = logging.getLogger("forkserve.asgi")

SPREAD = 10.0
"""Seconds over which WebSockets are closed when draining, or half of the remaining time if that is less."""
RATE = 20.0
"""WebSockets closed per second, if there is time: their clients reconnect to others at once."""
MARGIN = 1.0
"""Seconds before the end of the graceful timeout at which requests are cancelled, so that they can clean up."""


class _Tasks:
    """Runs each exchange as a task; everything here is called in the loop, outside of any task."""

    lock: AbstractContextManager[Any] = nullcontext()
    wakes = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._step = eager_task_factory(loop)
        self.running: set[Any] = set()

    def start(self, exchange: Any) -> None:
        """Run it until it first waits."""
        task = self._step(exchange.run())
        if not task.done():
            exchange.task = task
            self.running.add(exchange)
            # No closure: CPython 3.13 crashes where the allocation of one fails.
            task.add_done_callback(functools.partial(self._ended, exchange))
            exchange.suspended()

    def _ended(self, exchange: Any, _task: asyncio.Task[None]) -> None:
        """Called when the task of an exchange is done."""
        self.running.discard(exchange)

    def resume(self, exchange: Any) -> None:
        """Let it continue with its response."""
        exchange.resume()

    def notify(self, exchange: Any) -> None:
        """Let it check again whether its client is there."""
        exchange.wake()

    def interrupt(self, exchange: Any) -> bool:
        """Cancel its task; the exchange answers 504 if it can."""
        log_waiting(exchange.line.method, exchange.line.path, exchange.task and exchange.task.get_coro())
        exchange.cancel(End.OVERDUE)
        return True


class _Serving:
    """One driver in one loop, from the lifespan's begin to its end."""

    def __init__(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        self._run = run
        self._app = app
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._drained = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._drain_timers: list[asyncio.TimerHandle] = []
        self._margin = 0.0
        self._writing = False
        self._tasks = _Tasks(self._loop)

    async def serve(self) -> None:
        """Serve until drained; raises ApplicationError if the application fails to start."""
        lifespan = Lifespan(self._app, self._run.options.asgi.lifespan)
        await lifespan.start()
        responder = Responder(time.time(), self._run.server)
        self.serving = AsgiServingContext(self._with_files(), responder, self._loop, lifespan.state, http_scope)
        self.driver = driver = self._driver()
        self._loop.add_reader(driver.fileno(), self._turn)
        watchdog = Watchdog(self._loop, driver, self._run.give_up)
        self._run.ready()
        try:
            await self._drained.wait()
            while self._tasks.running:
                await asyncio.wait({each.task for each in self._tasks.running})
        finally:
            watchdog.close()
            self._loop.remove_reader(driver.fileno())
            for timer in (self._timer, *self._drain_timers):
                if timer is not None:
                    timer.cancel()
            driver.close()
        if not await lifespan.stop(self._run.drain_deadline - self._margin):
            self._run.cut += 1

    def _with_files(self) -> App:
        folders = self._run.options.static.static
        if not folders:
            return self._app
        from forkserve.serving.asgi.static import AsgiStatic

        return AsgiStatic(self._app, folders)

    def _driver(self) -> Driver:
        options = self._run.options
        limits = options.http.effective()
        tls, trusted = tls_of(options.tls), trusted_by(options.proxy)
        forwarding = None if trusted is None else AsgiForwarding(*trusted)
        parser = reader_of(options.parser.parser)
        listenings = [
            Listening(
                listener,
                ScopeTemplate(listener, root_path=options.proxy.root_path, tls=tls is not None, forwarding=forwarding),
                Profile(limits, ScopeCollector, parser),
            )
            for listener in self._listeners
        ]
        prepare_listenings(listenings, tls, options.proxy)
        driver = Driver(listenings, self._service(), self._tasks, self._run)
        isolate_forked_children(driver)
        failing_ends_child(driver, "forkserve.serving.asgi.exchange", "AsgiExchange.fail")
        failing_ends_child(driver, "forkserve.serving.asgi.websocket_session", "WebSocketSession.fail")
        return driver

    def _service(self) -> Service:
        options, wakeup = self._run.options, Wakeup()
        access = open_access_log(options.access_log, wakeup)
        identity, counter = (
            options.proxy.request_id_header,
            counter_of(self._run.seat, capacity=0, limit=options.timeouts.timeout or FOREVER),
        )
        return Service(
            exchange=exchange_factory(self.serving, options.asgi, access=access, counter=counter, identity=identity),
            responder=self.serving.responder,
            wakeup=wakeup,
            access=access,
            counter=counter,
            turns=Turns(keep=self._keep, drain=self._begin_drain, hurry=self._hurry),
        )

    def _turn(self) -> None:
        driver = self.driver
        driver.ready()
        if self._timer is None:
            self._arm()
        if driver.noted and not self._writing:
            self._writing = True
            self._loop.call_later(LOG_DELAY, self._write)
        if driver.acceptor.draining:
            self._release_deserted()
            if driver.drained:
                self._drained.set()

    def _write(self) -> None:
        """Write the lines of the access log: the timer may be set for later."""
        self._writing = False
        if not self._drained.is_set():
            self._turn()

    def _arm(self) -> None:
        timeout = self.driver.timeout()
        if timeout is not None:
            self._timer = self._loop.call_later(timeout, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._turn()

    def _keep(self, wanted: bool) -> None:
        self.serving.keep = wanted

    def _begin_drain(self) -> None:
        """Close WebSockets one after another, so that their clients do not all reconnect at once; schedule the last
        call.

        Streams of events have more time, since many end by themselves.
        """
        grace = self._run.time_left()
        self._margin = margin = min(MARGIN, grace / 4)
        later, last_call = self._loop.call_later, grace - 2 * margin
        sockets = list(self.serving.sockets)
        self._drain_timers = [
            *(later(at, each.leave) for each, at in _spread(sockets, min(SPREAD, grace / 2, len(sockets) / RATE))),
            later(min(grace * 3 / 4, last_call), self._dismiss, last_call),
            later(last_call, self._last_call),
            later(grace - margin, self._cut),
            later(grace - margin / 2, self._hang_up),
        ]

    def _hurry(self) -> None:
        """Notify all at once."""
        for each in list(self.serving.sockets):
            each.leave()
        self._last_call()

    def _dismiss(self, until: float) -> None:
        """Tell streams of events, one after another, that their clients have left."""
        streams = [each for each in self._tasks.running if each.streams_events]
        left = max(0.0, until - (self._run.grace - self._run.time_left()))
        self._drain_timers += [self._loop.call_later(at, self._tell_end, each) for each, at in _spread(streams, left)]

    def _tell_end(self, exchange: Any) -> None:
        self.serving.dismissed.add(exchange)
        exchange.wake()

    def _release_deserted(self) -> None:
        """Cancel tasks that have begun to answer a client that has left, and wait for something else."""
        for each in list(self._tasks.running):
            if each.deserted:
                each.cancel(End.CANCELLED)

    def _last_call(self) -> None:
        """Tell the tasks that wait for their client's end that it has come."""
        self.serving.leaving = True
        for each in self._tasks.running:
            each.wake()

    def _cut(self) -> None:
        """Cancel what still runs, while there is time to clean up."""
        running = list(self._tasks.running)
        # A stream of events may be endless, and its client knows how to come back.
        self._run.cut = cut = sum(not each.streams_events for each in running)
        if cut:
            log.warning("%s: %d requests were cancelled at the end of the graceful timeout", self._run.name, cut)
        for each in running:
            each.cancel(End.CANCELLED)

    def _hang_up(self) -> None:
        """Close what clients still hold open."""
        for conn in list(self.driver.connections.values()):
            self.driver.connections.lose(conn)
        self._turn()


def _spread(items: Sequence[Any], seconds: float) -> list[tuple[Any, float]]:
    """Return each with its instant, spread over this many seconds, not quite regularly."""
    part = seconds / max(1, len(items))
    return [(each, (number + random.random()) * part) for number, each in enumerate(items)]


class Asgi:
    """The driver in an event loop."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.ASGI}),
        concurrency="a task for each request",
        stops_accepting=True,
        honours=(HONOURS - {"body_in_memory"}) | names_of(AsgiOptions),
        imports=(
            "forkserve.serving.asgi.denial",
            "forkserve.serving.asgi.heartbeat",
            "forkserve.serving.asgi.websocket_session",
        ),
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained; raises ApplicationError if the application's lifespan fails to start."""

        async def main() -> None:
            await _Serving(app, listeners, run).serve()

        with asyncio.Runner(loop_factory=loop_factory(run, auto="asyncio")) as runner:
            runner.run(main())
