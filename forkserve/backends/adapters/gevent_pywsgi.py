"""gevent's own server, for applications that need it; forkserve's `gevent` backend runs on the same hub.

Its maintainer advises against production use (gevent #2075): it accepts requests framed in two ways.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.shim import Shim

__all__ = ["GeventPywsgi"]


class GeventPywsgi:
    """gevent.pywsgi.WSGIServer on inherited sockets."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="a greenlet for each connection; blocking code must be patched",
        monkey_patches=True,
        repairs=frozenset({Repair.HEAD, Repair.NAMES, Repair.ADDRESS}),
        honours=frozenset({"graceful_timeout", "spawn", "max_requests", "max_requests_jitter"}),
        weaknesses=("lets smuggled requests through", "no time limits"),
        requires=("gevent",),
        install="pip install 'forkserve[gevent]'",
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        import gevent
        from gevent.event import Event
        from gevent.pool import Pool

        handler = _handler_class(run)
        pool = Pool(run.options.concurrency.spawn or None)
        mended = Shim(app, self.traits.repairs, listeners, run)
        servers = [_server(each, mended, pool, handler) for each in listeners]
        draining = Event()
        watcher = gevent.get_hub().loop.io(run.drain_fd, 1)
        watcher.start(draining.set)
        for server in servers:
            server.start()
        run.ready()
        draining.wait()
        watcher.stop()
        watcher.close()
        for server in servers:
            server.close()
        for idle in list(handler.idle):
            idle.socket.shutdown(socket.SHUT_RD)
        pool.join()


def _server(listener: socket.socket, app: App, pool: Any, handler: type[Any]) -> Any:
    from gevent import socket as green
    from gevent.pywsgi import WSGIServer

    sock = green.socket(fileno=listener.detach())
    return WSGIServer(sock, app, log=None, spawn=pool, handler_class=handler)


def _handler_class(run: Run) -> type[Any]:
    """Return a handler that knows which connections wait for a request, and ends those while draining."""
    from gevent.pywsgi import WSGIHandler

    class Handler(WSGIHandler):
        idle: ClassVar[set[Any]] = set()

        def __init__(self, sock: Any, address: Any, server: Any, rfile: Any = None) -> None:
            super().__init__(sock, address or ("", ""), server, rfile)

        def read_requestline(self) -> str:
            if run.draining and self.idle_once:
                return ""
            self.idle.add(self)
            try:
                return str(super().read_requestline())
            finally:
                self.idle.discard(self)
                self.idle_once = True

        idle_once = False

    return Handler
