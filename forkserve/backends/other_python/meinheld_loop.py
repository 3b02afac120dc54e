"""meinheld's server: which builds may serve, and how one drains. Used by foreign workers and by forkserve's own."""

from __future__ import annotations

import math
import os
import resource
import sys
from typing import TYPE_CHECKING, Any, Protocol

from .mistakes import UserError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from .flight import Flight

__all__ = ["StopRequest", "import_server", "refusal", "serve"]


class StopRequest(Protocol):
    """When to stop: `take` is called whenever one of `fds` is readable; `graceful` seconds are left from then on."""

    fds: list[int]

    @property
    def graceful(self) -> float:
        """Seconds that are left."""

    def listen(self) -> None:
        """Install the signal handlers again, after a library has installed its own."""

    def take(self) -> bool:
        """Read the signals that arrived; True if one asks to stop."""

    def ready(self) -> None:
        """Called once the server accepts connections."""


def refusal(python: tuple[int, int], version: str, greenlet: str, with_greenlet: bool) -> str | None:
    """Return the reason why this combination must not serve, None if it may. Versions are those of the installed
    distributions.
    """
    if not with_greenlet:
        return "meinheld was built without greenlet (MEINHELD_NOGREEN) and would cut off big responses"
    if "+forkserve." in version:
        return None
    if version != "1.0.2":
        return f"meinheld {version} is not 1.0.2, the release that is known"
    if python >= (3, 10):
        return f"the original meinheld 1.0.2 cuts off big responses, leaks or crashes on Python {python[0]}.{python[1]}"
    if int(greenlet.split(".")[0]) >= 1:
        return f"the original meinheld 1.0.2 needs greenlet<0.5, here is {greenlet}: big responses would crash it"
    return None


def import_server() -> Any:
    """Return the module `meinheld.server`; raises ImportError if it is missing, `UserError` if it must not be used."""
    from importlib.metadata import version

    import meinheld.server as server  # type: ignore[import-not-found,import-untyped,unused-ignore]

    try:
        server.get_ident()
        green = True
    except NotImplementedError:
        green = False
    why = refusal(sys.version_info[:2], version("meinheld"), version("greenlet") if green else "", green)
    if why is not None:
        raise UserError(
            f"{why}. Two ways out: `forkserve-worker --install-backend meinheld` builds a mended one, and "
            "`--python /path/to/python3.9` serves the original under an interpreter that it was written for"
        )
    return server


def serve(
    app: Flight, listeners: Sequence[socket.socket], stop: StopRequest, *, keep_alive: float, max_body: int
) -> None:
    """Serve until stopped; `keep_alive` in seconds, `max_body` in bytes, 0 for no limit.

    meinheld installs C handlers for TERM and INT that leave one second; so greenlets of its loop take the signals back,
    wait for the stop signal and give the requests in flight their time.
    """
    server = import_server()
    _configure(server, listeners, keep_alive, max_body)
    drain = _Drain(server, app, stop)
    server.set_watchdog(drain.tick)
    for fd in stop.fds:
        server.spawn(drain.wait, (fd,))
    server.run(app, silent=True)


class _Drain:
    """Ends the server: at once without requests in flight, else when the last one is done or its time is up."""

    def __init__(self, server: Any, app: Flight, stop: StopRequest) -> None:
        self._server = server
        self._app = app
        self._stop = stop
        self._begun = False
        self._finishing = False

    def wait(self, fd: int) -> None:
        """Wait in a greenlet for the stop signal on one of its descriptors, and begin."""
        stop = self._stop
        if fd == stop.fds[0]:
            stop.listen()
            stop.ready()
        while not stop.take():
            self._server.trampoline(fd, read=True)
        if not self._begun:
            self._begun = True
            self._begin()

    def tick(self) -> None:
        """Called once a second: leave when the last request is done, even if idle connections are open."""
        if self._finishing and self._app.count == 0:
            self._finishing = False
            self._server.shutdown(1)

    def _begin(self) -> None:
        server, stop = self._server, self._stop
        for fd in stop.fds:
            server.cancel_wait(fd)
        server.set_keepalive(0)  # answers say Connection: close from now on
        self._finishing = self._app.count > 0
        server.shutdown(math.ceil(stop.graceful) + 5 if self._finishing else 1)


def _configure(server: Any, listeners: Sequence[socket.socket], keep_alive: float, max_body: int) -> None:
    # Always a list, and duplicates: a bare int steals a reference, and the numbers are closed at the end.
    server.set_listen_socket([os.dup(listener.fileno()) for listener in listeners])
    server.set_access_logger(None)
    server.set_keepalive(min(math.ceil(keep_alive), 120))
    server.set_max_content_length(max_body if 0 < max_body < 1 << 31 else (1 << 31) - 1)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    server.set_picoev_max_fd(max(1024, min(soft if soft > 0 else 65536, 1 << 20)))  # it writes past a smaller table
