"""The servers that a foreign worker supports, each on inherited sockets."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from . import meinheld_loop
from .drain import notify
from .mistakes import OK, UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .drain import Drain
    from .flight import Flight

    Listeners = list[socket.socket]

__all__ = ["BACKENDS", "missing"]


def serve_wsgiref(app: Flight, listeners: Listeners, drain: Drain, args: argparse.Namespace) -> None:
    """The standard library's server: one request at a time, HTTP/1.0."""
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Quiet(WSGIRequestHandler):
        def log_request(self, *args: Any) -> None:
            pass

        def address_string(self) -> str:
            return str(self.client_address[0]) if self.client_address else ""

    class WsgirefServer(WSGIServer):
        def server_bind(self) -> None:
            self.server_name, self.server_port = app.address.get("SERVER_NAME", ""), 0
            self.setup_environ()

    server = WsgirefServer(("", 0), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = only(listeners)
    server.server_bind()
    server.set_app(app)
    drain.call(server.shutdown)
    notify("READY=1")
    server.serve_forever(poll_interval=0.1)


def serve_waitress(app: Flight, listeners: Listeners, drain: Drain, args: argparse.Namespace) -> None:
    """Waitress: a loop and threads."""
    from waitress.server import create_server  # type: ignore[import-untyped,unused-ignore]

    server = create_server(app, sockets=listeners, threads=args.threads, ident=None)

    def leave(number: int, frame: object) -> NoReturn:
        drain.take()
        raise SystemExit(OK)

    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, leave)
    notify("READY=1")
    server.run()


def serve_gevent(app: Flight, listeners: Listeners, drain: Drain, args: argparse.Namespace) -> None:
    """gevent.pywsgi: a greenlet for each connection."""
    import gevent  # type: ignore[import-untyped,unused-ignore]
    from gevent import pywsgi
    from gevent import socket as green

    servers = [
        pywsgi.WSGIServer(green.socket(fileno=os.dup(one.fileno())), app, log=None, error_log=sys.stderr)
        for one in listeners
    ]
    for server in servers:
        server.start()
    notify("READY=1")
    while not drain.take():
        green.wait_read(drain.fds[0])
    gevent.joinall([gevent.spawn(server.stop, drain.graceful) for server in servers])


def serve_bjoern(app: Flight, listeners: Listeners, drain: Drain, args: argparse.Namespace) -> None:
    """Bjoern: a C loop, one request at a time; its graceful stop is SIGINT."""
    import bjoern  # type: ignore[import-not-found,import-untyped,unused-ignore]

    listener = only(listeners)
    drain.call(lambda: os.kill(os.getpid(), signal.SIGINT))
    notify("READY=1")
    with suppress(KeyboardInterrupt):
        bjoern.server_run(listener, app)


def only(listeners: Listeners) -> socket.socket:
    """Return the only listener of a backend that supports just one."""
    if len(listeners) != 1:
        raise UserError(f"this backend serves one socket, not {len(listeners)}")
    return listeners[0]


def serve_meinheld(app: Flight, listeners: Listeners, drain: Drain, args: argparse.Namespace) -> None:
    """meinheld: a C loop and a greenlet for each request."""
    meinheld_loop.serve(app, listeners, drain, keep_alive=args.keep_alive, max_body=args.max_body)


BACKENDS: dict[str, tuple[Callable[..., None], str]] = {
    "meinheld": (serve_meinheld, "meinheld==1.0.2"),
    "wsgiref": (serve_wsgiref, ""),
    "waitress": (serve_waitress, "waitress"),
    "gevent": (serve_gevent, "gevent"),
    "bjoern": (serve_bjoern, "bjoern"),
}


def missing(backend: str, error: BaseException) -> str:
    """Return the message that a backend is not installed for this interpreter, with the command that installs it."""
    command = f"{sys.executable} -m pip install {BACKENDS[backend][1]}"
    return f"{backend} is not installed for {sys.executable} ({error}); install it with: {command}"
