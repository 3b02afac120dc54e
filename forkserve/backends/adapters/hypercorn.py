"""hypercorn: ASGI and WSGI on asyncio, with HTTP/2."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.looping import drain_event, loop_factory
from forkserve.backends.shim import Shim, asgi_shim
from forkserve.logs import adopt
from forkserve.serving.application.interface import interface_of
from forkserve.serving.inherited import backlog_of

__all__ = ["Hypercorn"]

MARGIN = 1.0
"""Seconds before the end of the graceful timeout at which requests are cancelled; as in forkserve's `asgi`."""


class Hypercorn:
    """hypercorn.asyncio.serve on inherited sockets."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.ASGI, Interface.WSGI}),
        concurrency="an event loop; a WSGI application on its threads",
        repairs=frozenset({Repair.NAMES, Repair.WRITE, Repair.ADDRESS}),
        honours=frozenset(
            {
                "graceful_timeout", "keep_alive", "max_requests", "max_requests_jitter", "loop", "ws_max_size",
                "max_body", "certfile", "keyfile", "ca_certs", "ciphers", "root_path",
            }
        ),
        weaknesses=(
            "under WSGI, bodies are kept in memory and chunked ones lost",
            "under WSGI, an empty response becomes a 500",
            "no time limit for a request's head",
        ),
        requires=("hypercorn",),
        imports=("hypercorn.asyncio",),
    )  # fmt: skip

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        if interface_of(app) is Interface.WSGI:
            app = _wrapped(Shim(app, self.traits.repairs, listeners, run), run)
        with asyncio.Runner(loop_factory=loop_factory(run)) as runner:
            runner.run(_serve(asgi_shim(app, self.traits.repairs, run), listeners, run))


def _wrapped(app: App, run: Run) -> App:
    """Return an ASGI application that runs a WSGI one on threads, so both take the same path from here."""
    from hypercorn.middleware import AsyncioWSGIMiddleware

    return AsyncioWSGIMiddleware(app, max_body_size=run.options.http.max_body or 1 << 40)


async def _serve(app: App, listeners: Sequence[socket.socket], run: Run) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    serving, tls = run.options, run.options.tls
    config = Config()
    config.bind = [f"fd://{os.dup(each.fileno())}" for each in listeners]
    config.backlog = min(backlog_of(each) for each in listeners)
    config.keep_alive_timeout = serving.timeouts.keep_alive
    config.websocket_max_message_size = serving.asgi.ws_max_size
    config.root_path = serving.proxy.root_path
    config.include_server_header = False
    adopt("hypercorn", "hypercorn.error")
    config.accesslog, config.errorlog = None, logging.getLogger("hypercorn.error")
    if tls.certfile:
        config.certfile, config.keyfile, config.ca_certs = tls.certfile, tls.keyfile or tls.certfile, tls.ca_certs
        config.ciphers = tls.ciphers or config.ciphers
    await serve(app, config, shutdown_trigger=_trigger(run, config), mode="asgi")


def _trigger(run: Run, config: Any) -> Any:
    """Return the coroutine function that hypercorn awaits once it serves."""

    async def wait() -> None:
        draining = drain_event(run)
        run.ready()
        await draining.wait()
        # hypercorn reads it from now on; what it cancels then still has time to clean up.
        left = run.time_left()
        config.graceful_timeout = left - min(MARGIN, left / 4)

    return wait
