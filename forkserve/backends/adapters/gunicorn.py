"""Gunicorn's workers as a library: the strictest of the third-party parsers, without Gunicorn's master.

A worker is made as the master would make it, around a descriptor of forkserve. Its signal handlers are chained with
forkserve's, so both see the draining. An asyncio worker would set the backlog to 100, so it gets a socket of forkserve.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Run, Traits
from forkserve.backends.shim import Shim, asgi_shim
from forkserve.errors import BackendError

__all__ = ["GunicornAsgi", "GunicornGevent", "GunicornGthread", "GunicornSync"]

HONOURED = frozenset(
    {
        "graceful_timeout", "keep_alive", "threads", "max_requests", "max_requests_jitter", "limit_request_line",
        "limit_request_fields", "limit_request_field_size", "forwarded_allow_ips", "proxy_protocol",
        "proxy_allow_ips", "root_path", "certfile", "keyfile", "ca_certs", "ciphers", "access_log",
        "access_log_format",
    }
)  # fmt: skip
KINDS = {socket.AF_INET: "TCPSocket", socket.AF_INET6: "TCP6Socket", socket.AF_UNIX: "UnixSocket"}

_WAITS = "waits for idle keep-alive connections before it ends"
_TRUNCATES = "a body of known length that breaks off is taken for a whole one"


def _traits(concurrency: str, **changes: Any) -> Traits:
    facts: dict[str, Any] = {
        "interfaces": frozenset({Interface.WSGI}),
        "honours": HONOURED,
        "weaknesses": (_WAITS,),
        "requires": ("gunicorn",),
    }
    return Traits(concurrency=concurrency, **(facts | changes))


class _Gunicorn:
    """The common part of the four workers: `kind` is Gunicorn's name of the worker class."""

    kind = ""
    traits: ClassVar[Traits]

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        cfg = _config(self.kind, run)
        log = cfg.logger_class(cfg)
        sockets = [_wrapped(each, cfg, log) for each in listeners]
        worker_class = _chained(cfg.worker_class, run)
        is_wsgi = Interface.WSGI in self.traits.interfaces
        repairs = self.traits.repairs
        mended = Shim(app, repairs, listeners, run) if is_wsgi else asgi_shim(app, repairs, run)
        application = _Application(mended, cfg)
        worker = worker_class(1, os.getppid(), sockets, application, cfg.timeout or 30, cfg, log)
        try:
            worker.init_process()
        except SystemExit as ended:
            if ended.code:
                raise BackendError(f"Gunicorn's worker gave up with exit code {ended.code}") from None
        run.drain("gunicorn's worker has ended")


class _Application:
    """Stands in for Gunicorn's application object."""

    def __init__(self, app: App, cfg: Any) -> None:
        self.callable = app
        self.cfg = cfg

    def wsgi(self) -> App:
        return self.callable


def _config(kind: str, run: Run) -> Any:
    from gunicorn.config import Config

    serving, tls = run.options, run.options.tls
    cfg = Config()
    values = {
        "worker_class": kind,
        "threads": serving.concurrency.threads,
        "worker_connections": serving.concurrency.spawn or 1000,
        "timeout": int(serving.timeouts.timeout),
        "keepalive": int(serving.timeouts.keep_alive),
        "limit_request_line": min(serving.http.limit_request_line, 8190),
        "limit_request_fields": serving.http.limit_request_fields,
        "limit_request_field_size": serving.http.limit_request_field_size,
        "forwarded_allow_ips": ",".join(ip for ip in serving.proxy.forwarded_allow_ips if ip != "unix"),
        "proxy_protocol": serving.proxy.proxy_protocol.value,
        "proxy_allow_ips": ",".join(serving.proxy.proxy_allow_ips),
        "accesslog": serving.access_log.access_log,
        "access_log_format": serving.access_log.access_log_format,
        "asgi_lifespan": serving.asgi.lifespan.value,
        "asgi_loop": "asyncio",
        "loglevel": "warning",
        "certfile": tls.certfile,
        "keyfile": tls.keyfile,
        "ca_certs": tls.ca_certs,
        "ciphers": tls.ciphers,
    }
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


def _wrapped(listener: socket.socket, cfg: Any, log: Any) -> Any:
    from gunicorn import sock

    kind = getattr(sock, KINDS[listener.family])
    wrapped = kind(listener.getsockname(), cfg, log, fd=os.dup(listener.fileno()))
    wrapped.sock.close()
    wrapped.sock = listener
    return wrapped


def _chained(worker_class: type[Any], run: Run) -> type[Any]:
    class AdaptedWorker(worker_class):
        def init_signals(self) -> None:
            stops = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1)
            ours = {number: signal.getsignal(number) for number in stops}
            super().init_signals()
            theirs = signal.getsignal(signal.SIGTERM)
            for number, handler in ours.items():
                signal.signal(number, handler)
            signal.signal(signal.SIGUSR2, _as_term(theirs))
            run.on_drain(self.begin_drain)

        def begin_drain(self) -> None:
            # Whole seconds, as the setting has them.
            self.cfg.set("graceful_timeout", round(run.time_left()))
            os.kill(os.getpid(), signal.SIGUSR2)

        def run(self) -> None:
            run.ready()
            super().run()

    return AdaptedWorker


def _as_term(handler: Any) -> Callable[[int, FrameType | None], None]:
    return lambda number, frame: handler(signal.SIGTERM, frame)


class GunicornSync(_Gunicorn):
    """One request at a time, without keep-alive."""

    kind = "sync"
    traits = _traits("one request at a time, no keep-alive", weaknesses=(_TRUNCATES,))


class GunicornGthread(_Gunicorn):
    """A pool of threads."""

    kind = "gthread"
    traits = _traits("--threads", weaknesses=("as many half-sent requests as threads block it", _TRUNCATES))


class GunicornGevent(_Gunicorn):
    """A greenlet for each connection."""

    kind = "gevent"
    traits = _traits(
        "a greenlet for each connection",
        weaknesses=(_WAITS, _TRUNCATES),
        monkey_patches=True,
        requires=("gunicorn", "gevent", "packaging"),
        install="pip install gunicorn gevent packaging",
        honours=HONOURED | {"spawn"},
    )


class GunicornAsgi(_Gunicorn):
    """An event loop."""

    kind = "asgi"
    traits = _traits("an event loop", interfaces=frozenset({Interface.ASGI}), honours=HONOURED | {"lifespan"})
