"""Makes a driver for a WSGI application and its listeners; backends differ in how it runs exchanges."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forkserve.backends.base import App, Run
from forkserve.backends.identified import WsgiIdentified, variable_of
from forkserve.backends.serving import open_access_log, prepare_listenings, tls_of, trusted_by
from forkserve.config.serving import ServingOptions
from forkserve.serving.binding import Binding
from forkserve.serving.engine.access import AccessLog
from forkserve.serving.engine.counting import counter_of
from forkserve.serving.engine.driver import Driver, Runner, Service
from forkserve.serving.engine.forks import failing_ends_child, isolate_forked_children
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.upkeep import Turns
from forkserve.serving.engine.wakeup import Wakeup
from forkserve.serving.gateway.context import WsgiServingContext
from forkserve.serving.gateway.forwarding import VARIABLES, WsgiForwarding
from forkserve.serving.gateway.mount import mounted, script_name
from forkserve.serving.gateway.template import environ_template
from forkserve.serving.http.fields import EnvironCollector, Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.request import Profile
from forkserve.serving.http.response import PreparedHead, Responder
from forkserve.serving.native import hot
from forkserve.serving.parser import reader_of
from forkserve.wsgi import WsgiExchange

__all__ = ["WsgiRunner", "wsgi_driver"]


class WsgiRunner(Runner, Protocol):
    """How a backend runs WSGI exchanges."""

    parks: bool
    """Whether an exchange whose client reads slowly is suspended and resumed, or waits by `wait`."""
    capacity: int
    """How many exchanges can run at once; 0 for no limit."""

    def wait(self, conn: Any, until: Callable[[], bool]) -> None:
        """Block the calling application until `until()` is true; returns also when the client has left."""


def wsgi_driver(
    app: App,
    listeners: Sequence[socket.socket],
    run: Run,
    runner: WsgiRunner,
    *,
    multithread: bool = False,
    alarm: Any = None,
) -> Driver:
    """Return a driver that runs the application as `runner` says; with an `alarm`, it is run in place."""
    options = run.options
    listenings = _listenings(listeners, run, multithread=multithread)
    serving = _serving_context(app, run, runner)
    wakeup = Wakeup()
    access = open_access_log(options.access_log, wakeup if runner.wakes else None)
    counter = counter_of(run.seat, capacity=runner.capacity, limit=options.timeouts.effective().timeout)
    exchange, start = _bind(serving, options, access, counter, defers_body=not runner.parks, alarm=alarm)
    service = Service(
        exchange=exchange,
        responder=serving.responder,
        wakeup=wakeup,
        start=start,
        access=access,
        counter=counter,
        turns=Turns(keep=serving.keep_connections),
    )
    driver = Driver(listenings, service, runner, run)
    isolate_forked_children(driver)
    failing_ends_child(driver, "forkserve.wsgi", "WsgiExchange.fail")
    return driver


def _listenings(listeners: Sequence[socket.socket], run: Run, *, multithread: bool) -> list[Listening]:
    """Return the listeners with what all their requests have in common; raises UsageError."""
    options = run.options
    limits, tls, parser = options.http.effective(), tls_of(options.tls), reader_of(options.parser.parser)
    root = script_name(options.proxy.root_path)
    listenings = [
        Listening(
            listener,
            environ_template(
                listener,
                script_name=root,
                multithread=multithread,
                tls=tls is not None,
                server=run.server,
                draining=lambda: run.draining,
            ),
            Profile(limits, EnvironCollector, parser),
        )
        for listener in listeners
    ]
    prepare_listenings(listenings, tls, options.proxy)
    return listenings


def _serving_context(app: App, run: Run, runner: WsgiRunner) -> WsgiServingContext:
    """Return the application with what its exchanges have in common; raises UsageError."""
    options = run.options
    trusted, root = trusted_by(options.proxy), script_name(options.proxy.root_path)
    served = _with_files(app, options.static.static)
    return WsgiServingContext(
        mounted(served, root) if root else served,
        Responder(time.time(), run.server),
        wait=runner.wait,
        parks=runner.parks,
        body_in_memory=options.http.body_in_memory,
        forwarding=None if trusted is None else WsgiForwarding(*trusted),
    )


def _bind(
    serving: WsgiServingContext,
    options: ServingOptions,
    access: AccessLog | None,
    counter: Any,
    *,
    defers_body: bool,
    alarm: Any,
) -> tuple[Any, Callable[[Any], None] | None]:
    """Return the maker of the exchanges, of the class that the options ask for, and what runs one in place.

    In C if available; None if the runner starts it. If waiting would not be a greenlet's (`defers_body` is False), it
    would block a thread or the worker.
    """
    header = options.proxy.request_id_header
    named = {"header": header, "variable": variable_of(header)} if header else {}
    binding = Binding(
        context=serving,
        access=access,
        counter=counter,
        identified=WsgiIdentified if header else None,
        attributes={"defers_body": defers_body, **named},
    )
    exchange = binding.make("BoundExchange", WsgiExchange)
    if hot is None:
        return binding.instrument(exchange), None
    kinds = (RequestLine, Fields, PreparedHead)
    caller = hot.Caller(exchange, WsgiExchange, serving, alarm, binding.line, counter, VARIABLES, kinds)
    return caller.begin, None if alarm is None else caller.start


def _with_files(app: App, folders: tuple[tuple[str, str], ...]) -> App:
    if not folders:
        return app
    from forkserve.serving.static import WsgiStatic

    return WsgiStatic(app, folders)
