"""granian: HTTP in Rust, the application on threads (WSGI) or in an event loop (ASGI).

Its command has its own master; this adapter uses the body of its worker, which is private, so a release may break it;
`TRIED` lists the tested versions.
"""

from __future__ import annotations

import inspect
import os
import socket
import threading
from collections.abc import Callable, Sequence
from importlib import metadata
from types import SimpleNamespace
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.shim import Shim, asgi_shim
from forkserve.errors import BackendError
from forkserve.serving.application.interface import interface_of
from forkserve.serving.inherited import backlog_of
from forkserve.unix.signalmask import PULSE

__all__ = ["Granian"]

TRIED = "2.8"


def _untried() -> str | None:
    version = metadata.version("granian")
    return None if version.startswith(TRIED + ".") else f"granian {version} was not tried, only {TRIED}.*"


class Granian:
    """The worker of granian's server on an inherited socket."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.ASGI, Interface.WSGI}),
        concurrency="Rust threads for the network; --threads for a WSGI application, a loop for an ASGI one",
        many_listeners=False,
        repairs=frozenset({Repair.WRITE, Repair.NAMES, Repair.HEADERS, Repair.ADDRESS}),
        honours=frozenset({"graceful_timeout", "threads", "max_requests", "max_requests_jitter", "lifespan"}),
        weaknesses=(
            "under WSGI, lets smuggled requests through",
            "under WSGI, a body that breaks off is taken for a whole one",
            "under WSGI, header names with underscores are passed on",
        ),
        requires=("granian",),
        install=f"pip install 'granian=={TRIED}.*'",
        probe=_untried,
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        from granian.server.mp import MPServer

        is_asgi = interface_of(app) is Interface.ASGI
        if is_asgi:
            target = MPServer._spawn_asgi_lifespan_worker
            if run.options.asgi.lifespan.value == "off":
                target = MPServer._spawn_asgi_worker
            served: App = asgi_shim(app, self.traits.repairs, run)
        else:
            _wait_in_turns()
            target = MPServer._spawn_wsgi_worker
            served = Shim(app, self.traits.repairs, listeners, run)
        _run_worker(target, served, listeners[0], run)


def _run_worker(target: Callable[..., None], app: App, listener: socket.socket, run: Run) -> None:
    from granian._granian import SocketHolder
    from granian.constants import HTTPModes, RuntimeModes, TaskImpl
    from granian.http import HTTP1Settings

    _keep_our_handlers(run)
    holder = SocketHolder(os.dup(listener.fileno()), listener.family == socket.AF_UNIX, backlog_of(listener))  # type: ignore[call-arg]
    shared: dict[str, Any] = {
        "runtime_mode": RuntimeModes.st,
        "runtime_threads": 1,
        "runtime_blocking_threads": 512,
        "blocking_threads": max(1, run.options.concurrency.threads),
        "blocking_threads_idle_timeout": 30,
        "backpressure": 1024,
        "task_impl": TaskImpl.asyncio,
        "http_mode": HTTPModes.http1,
        "http1_settings": HTTP1Settings(),
        "http2_settings": None,
        "static_path": None,
        "log_access_fmt": None,
        "ssl_ctx": (False, None, None, None, "tls1.3", None, [], False),
        "scope_opts": {"url_path_prefix": run.options.proxy.root_path or None},
        "metrics": (None, None),
    }
    known = set(inspect.signature(target).parameters)
    if "websockets" in known:
        shared["websockets"] = True
    if known != {"worker_id", "callback", "sock", "ipc", "loop", *shared}:
        raise BackendError(f"this version of granian is not supported; try: {Granian.traits.install}")
    run.ready()
    target(1, None, lambda: app, ((None, holder), None), None, "auto", False, "info", None, (), **shared)


class _InterruptibleEvent(threading.Event):
    """Waits at most `PULSE` at a time: the handler of a signal that came just before a wait runs after it."""

    def wait(self, timeout: float | None = None) -> bool:
        while timeout is None:
            if super().wait(PULSE):
                return True
        return super().wait(timeout)


def _wait_in_turns() -> None:
    """Let granian's WSGI worker, whose main thread waits for an event until it is to end, run each signal's handler."""
    from granian.server import mp

    vars(mp)["threading"] = SimpleNamespace(Event=_InterruptibleEvent)


def _keep_our_handlers(run: Run) -> None:
    """Let forkserve's draining end granian's worker, in place of its handlers for the stop signals."""
    from granian import _signals
    from granian._granian import WorkerSignal

    def end_at_drain(*_: Any) -> Any:
        ending = WorkerSignal()
        run.on_drain(ending.set)
        return ending

    _signals.set_sync_signals = end_at_drain
    _signals.set_loop_signals = end_at_drain
