"""Tornado's HTTP server around a WSGI application, which runs on threads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.looping import drain_event
from forkserve.backends.shim import Shim
from forkserve.logs import adopt

__all__ = ["Tornado"]

TICK = 0.02


class Tornado:
    """tornado.httpserver.HTTPServer on inherited sockets."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="a loop, and --threads that run the application (4 if not given)",
        repairs=frozenset({Repair.HEAD, Repair.HEADERS, Repair.NAMES, Repair.ADDRESS}),
        honours=frozenset(
            {"graceful_timeout", "threads", "max_requests", "max_requests_jitter", "keep_alive", "max_body"}
        ),
        weaknesses=("responses are collected in memory", "a body that breaks off is taken for a whole one"),
        requires=("tornado",),
        imports=("tornado.httpserver",),
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        threads = run.options.concurrency.threads
        with ThreadPoolExecutor(threads if threads > 1 else 4) as pool:
            asyncio.run(_serve(Shim(app, self.traits.repairs, listeners, run), listeners, run, pool))


async def _serve(app: App, listeners: Sequence[socket.socket], run: Run, pool: ThreadPoolExecutor) -> None:
    from tornado.httpserver import HTTPServer

    adopt("tornado", "tornado.access", "tornado.application", "tornado.general")
    container = _container(app, pool)
    body = run.options.http.max_body or 1 << 40
    server = HTTPServer(container, idle_connection_timeout=run.options.timeouts.keep_alive or 1, max_body_size=body)
    draining = drain_event(run)
    server.add_sockets(list(listeners))
    run.ready()
    await draining.wait()
    server.stop()
    while container.running or any(each.stream.writing() for each in server._connections):
        await asyncio.sleep(TICK)
    await server.close_all_connections()


def _container(app: App, pool: ThreadPoolExecutor) -> Any:
    from tornado.wsgi import WSGIContainer

    class Container(WSGIContainer):
        running = 0

        async def handle_request(self, request: Any) -> None:
            self.running += 1
            try:
                await super().handle_request(request)
            finally:
                self.running -= 1

        def environ(self, request: Any) -> dict[str, Any]:
            for name in [each for each in request.headers if "_" in each]:
                del request.headers[name]
            return super().environ(request)

    return Container(app, pool)
