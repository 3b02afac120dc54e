"""cheroot: CherryPy's server, an accept loop and a pool of threads."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.shim import Shim

__all__ = ["Cheroot"]


class Cheroot:
    """cheroot.wsgi.Server on an inherited socket."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="--threads (10 if not given)",
        many_listeners=False,
        unix=False,
        repairs=frozenset({Repair.HEAD, Repair.HEADERS, Repair.NAMES, Repair.ADDRESS}),
        honours=frozenset(
            {"graceful_timeout", "threads", "max_requests", "max_requests_jitter", "keep_alive", "max_body"}
        ),
        weaknesses=(
            "lets smuggled requests through",
            "a body that breaks off is taken for a whole one",
            "a few half-sent requests block every thread",
        ),
        requires=("cheroot",),
        imports=("cheroot.wsgi",),
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        server = _server(Shim(app, self.traits.repairs, listeners, run), listeners[0], run)

        def stop() -> None:
            server.shutdown_timeout = run.time_left()
            server.stop()

        run.on_drain(stop)
        # cheroot would take descriptor 3, as IPv4, whenever the variable is there at all.
        os.environ.pop("LISTEN_PID", None)
        server.prepare()
        run.ready()
        server.serve()
        server.requests.stop(run.time_left())


def _server(app: App, listener: socket.socket, run: Run) -> Any:
    from cheroot import wsgi

    class Gateway(wsgi.Gateway_10):
        def get_environ(self) -> Any:
            headers = self.req.inheaders
            for name in [each for each in headers if b"_" in each]:
                del headers[name]
            return super().get_environ()

    class CherootServer(wsgi.Server):
        def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
            self.socket = listener
            return listener

    serving = run.options
    threads = serving.concurrency.threads if serving.concurrency.threads > 1 else 10
    address = listener.getsockname()[:2]
    server = CherootServer(
        address, app, numthreads=threads, server_name=run.server, timeout=int(serving.timeouts.keep_alive)
    )
    server.gateway = Gateway
    server.max_request_body_size = serving.http.max_body
    server.max_request_header_size = serving.http.limit_request_head
    return server
