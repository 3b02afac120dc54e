"""uvicorn: ASGI on asyncio or uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.looping import drain_event, loop_factory
from forkserve.backends.shim import asgi_shim
from forkserve.errors import ApplicationError
from forkserve.logs import adopt
from forkserve.serving.inherited import backlog_of

__all__ = ["Uvicorn"]


class Uvicorn:
    """uvicorn.Server on inherited sockets; never its `fd=`, which takes a TCP socket for a unix one."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.ASGI}),
        concurrency="an event loop",
        repairs=frozenset({Repair.NAMES}),
        honours=frozenset(
            {
                "graceful_timeout", "keep_alive", "max_requests", "max_requests_jitter", "lifespan", "loop",
                "ws_max_size", "forwarded_allow_ips", "root_path", "certfile", "keyfile", "ca_certs", "ciphers",
            }
        ),
        weaknesses=("no time limit for a request's head", "accepts a little of what is malformed"),
        requires=("uvicorn",),
        imports=("uvicorn",),
        install="pip install 'uvicorn[standard]'",
    )  # fmt: skip

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained; raises ApplicationError if the lifespan's startup fails."""
        server = _server(asgi_shim(app, self.traits.repairs, run), listeners, run)
        with asyncio.Runner(loop_factory=loop_factory(run)) as runner:
            runner.run(server.serve(sockets=list(listeners)))
        if not server.started:
            raise ApplicationError("the application's lifespan startup failed")


def _server(app: App, listeners: Sequence[socket.socket], run: Run) -> Any:
    import uvicorn

    serving, tls = run.options, run.options.tls

    class UvicornServer(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                run.ready()
                self.waiting = asyncio.create_task(self._drain())

        async def _drain(self) -> None:
            await drain_event(run).wait()
            self.should_exit = True

    config = uvicorn.Config(
        app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        lifespan=serving.asgi.lifespan.value,
        backlog=min(backlog_of(each) for each in listeners),
        timeout_keep_alive=int(serving.timeouts.keep_alive),
        ws_max_size=serving.asgi.ws_max_size,
        forwarded_allow_ips=list(serving.proxy.forwarded_allow_ips),
        root_path=serving.proxy.root_path,
        server_header=False,
        ssl_certfile=tls.certfile,
        ssl_keyfile=tls.keyfile,
        ssl_ca_certs=tls.ca_certs,
        ssl_ciphers=tls.ciphers or "TLSv1",
    )
    adopt("uvicorn", "uvicorn.error", "uvicorn.asgi")
    return UvicornServer(config)
