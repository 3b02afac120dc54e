"""What the WSGI backends of the engine have in common: how a driver is made for an application and its listeners."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forkserve.backends.base import App, Run
from forkserve.engine.driver import Driver, Runner
from forkserve.engine.forks import contain
from forkserve.engine.limits import Limits
from forkserve.engine.listening import Listening
from forkserve.http.fields import EnvironCollector
from forkserve.http.request import Profile
from forkserve.wsgi.exchange import Exchange, Site
from forkserve.wsgi.template import environ_template

__all__ = ["HONOURS", "WsgiRunner", "wsgi_driver"]

HONOURS = frozenset(
    {
        "body_in_memory",
        "body_timeout",
        "graceful_timeout",
        "header_timeout",
        "keep_alive",
        "limit_request_field_size",
        "limit_request_fields",
        "limit_request_head",
        "limit_request_line",
        "max_body",
        "max_lifetime",
        "max_requests",
        "max_requests_jitter",
        "max_rss",
        "min_rate",
        "write_timeout",
    }
)
"""Options that the engine obeys under every backend."""


class WsgiRunner(Runner, Protocol):
    """How a backend runs WSGI exchanges."""

    parks: bool
    """Whether an exchange whose client reads slowly is left and resumed, or waits by `wait`."""

    def wait(self, conn: Any, until: Callable[[], bool]) -> None:
        """Block the calling application until `until()` holds; returns also when the client has gone."""


def wsgi_driver(
    app: App, listeners: Sequence[socket.socket], run: Run, runner: WsgiRunner, *, multithread: bool = False
) -> Driver:
    """Return a driver that runs the application as `runner` says."""
    options = run.options
    limits = Limits.of(options)
    listenings = [
        Listening(
            listener,
            environ_template(
                listener,
                script_name=options.proxy.root_path.rstrip("/"),
                multithread=multithread,
                multiprocess=True,
                server=run.server,
            ),
            Profile(limits.http, EnvironCollector),
        )
        for listener in listeners
    ]
    driver = Driver(listenings, limits, exchange=Exchange, runner=runner, run=run)
    site = Site(app, driver.responder, wait=runner.wait, parks=runner.parks, body_in_memory=options.http.body_in_memory)
    driver.exchange = type("BoundExchange", (Exchange,), {"__slots__": (), "site": site})
    driver.upkeep.on_drain.append(site.close_connections)
    contain(driver)
    return driver
