"""The interface of a backend: traits that describe it, and one method that serves until drained.

Rules: a backend's module imports its server library only inside `serve`, so that its traits can be read without the
library. A backend does not know where its listeners come from, installs no signal handler that it can avoid, and learns
from `Run` when to drain. The caller does everything else: sockets, signals, loading, logging, and the forced end at the
deadline.

    class Mine:
        traits = Traits(interfaces=frozenset({Interface.WSGI}), concurrency="one request at a time")

        def serve(self, app, listeners, run):
            ...                     # start accepting
            run.ready()
            ...                     # until run.drain_fd is readable; then finish what is in flight and return

A third party adds one by an entry point of the group `forkserve.backends` that names such a class.
"""

from __future__ import annotations

import os
import socket
import time
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from select import poll
from typing import Any, ClassVar, Protocol

from forkserve import __version__
from forkserve.config.launch import Interface
from forkserve.config.serving import ServingOptions
from forkserve.errors import ExitCode
from forkserve.serving.engine.limits import FOREVER
from forkserve.unix.scoreboard import OwnRecord
from forkserve.unix.signalmask import leave_signals_to_main

__all__ = ["FOREVER", "App", "Backend", "Interface", "Repair", "Run", "Traits"]

SERVER = f"forkserve/{__version__}"

App = Callable[..., Any]
"""A WSGI application (PEP 3333) or an ASGI 3 one; the traits say which."""


class Repair(Enum):
    """A fault of a WSGI server that `forkserve.backends.shim` repairs around the application."""

    HEAD = "sends the body of a response to HEAD"
    HEADERS = "sends CR, LF or NUL in response headers"
    NAMES = "passes header names with underscores on"
    WRITE = "gives the application no write()"
    ADDRESS = "does not know its own or the client's address"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a backend can do; read before its library is imported.

    `honours` names the options of `ServingOptions` that it obeys; a warning names each one given beyond them.
    `handles_signals`: it installs handlers that call the previous ones. `stops_accepting`: once it drains, it takes at
    most what waits in a queue, and a socket that is shut down is no error to it. `requires` names distributions,
    `install` is the command that installs them, and `probe` says why it cannot serve here even with them. `imports`
    names modules that `serve` imports: a zygote imports them before it forks.
    """

    interfaces: frozenset[Interface]
    concurrency: str
    monkey_patches: bool = False
    many_listeners: bool = True
    unix: bool = True
    graceful: bool = True
    handles_signals: bool = False
    stops_accepting: bool = False
    honours: frozenset[str] = frozenset({"graceful_timeout"})
    repairs: frozenset[Repair] = frozenset()
    weaknesses: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str = ""
    probe: Callable[[], str | None] = lambda: None
    imports: tuple[str, ...] = ()


class Run:
    """One serving, as its backend sees it.

    `options`: the slices. `name`: the name of the process in logs, `web[3]`, or `worker`. `server`: the value of the
    Server header. `drain_fd` is readable from the moment that draining begins, and stays so: never read from it.
    """

    hurried: bool
    """Whether it was told a second time to end: long requests are told so at once."""
    drain_deadline: float
    """The instant (monotonic) at which the process is ended by force; infinite until draining begins."""
    grace: float
    """Seconds from the start of draining to `drain_deadline`."""
    cut: int
    """Requests that the backend has ended itself, as their time was up."""
    seat: OwnRecord | None
    """Where this process sees its siblings, and they see it; None if there can be none."""

    alone: Callable[[], bool]
    """Whether no other process accepts from the listeners, so that what waits in their queues would be lost."""
    give_up: Callable[[str], object]
    """Ends the process at once, with the reason: what keeps it alive cannot be ended. May be called from any thread."""
    say: Callable[[str], object]
    """Reports the progress of draining to the supervisor, in a line."""
    hold_signals: Callable[[], object]
    """Reinstalls the stop signals after the application, which may take them over in any request.

    Called from time to time while serving; does nothing in another thread than the main one.
    """
    on_warm: Callable[[], object]
    """Called when enough requests were served for this process to be a zygote."""

    def __init__(
        self,
        options: ServingOptions,
        *,
        name: str = "worker",
        server: str = SERVER,
        on_ready: Callable[[], object] = lambda: None,
        on_begin: Callable[[], object] = lambda: None,
        on_give_up: Callable[[str], object] = lambda reason: os._exit(ExitCode.TIMED_OUT),
    ) -> None:
        self.options = options
        self.name = name
        self.server = server
        self.draining = False
        self.hurried = False
        self.drain_reason = ""
        self.drain_deadline = float("inf")
        self.grace = options.timeouts.graceful_timeout
        self.cut = 0
        self.alone = lambda: False
        self.seat = None
        self.is_ready = False
        self._begun = False
        self._on_ready = on_ready
        self._on_begin = on_begin
        self.give_up = on_give_up
        self.say = lambda _status: None
        self.hold_signals = lambda: None
        self.on_warm = lambda: None
        self.drain_fd, self._drain_end = os.pipe()

    def close(self) -> None:
        """Close its descriptors, in a process that goes on without serving."""
        os.close(self.drain_fd)
        os.close(self._drain_end)

    def ready(self) -> None:
        """Report that connections are accepted now; a second call does nothing."""
        if not self.is_ready:
            self.is_ready = True
            self._on_ready()

    def drain(self, reason: str, grace: float = FOREVER) -> None:
        """Begin to drain; a second call does nothing. Safe in a signal handler and from any thread.

        A backend calls it to end by itself, e.g. after `max_requests`. `grace`, in seconds, shortens the graceful
        timeout; `drain_deadline` is set here and nowhere else, and everything that enforces it reads it.
        """
        if self._begun:
            return
        self._begun = True
        self.drain_reason = reason
        self.grace = min(grace, self.options.timeouts.graceful_timeout)
        self.drain_deadline = time.monotonic() + self.grace
        # First, since an idle backend may have drained, and the process may have ended, before the next line here.
        self._on_begin()
        self.draining = True
        os.write(self._drain_end, b"\0")

    def hurry(self) -> None:
        """Called when told a second time to end; safe in a signal handler."""
        self.hurried = True

    def time_left(self) -> float:
        """Return the seconds until `drain_deadline`, at least 0; infinite until draining begins."""
        return max(0.0, self.drain_deadline - time.monotonic())

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Call `callback` once when draining begins, on a new thread: for servers whose stop() may block.

        A server with a loop that can watch a descriptor watches `drain_fd` instead.
        """

        def wait() -> None:
            leave_signals_to_main()
            waiter = poll()
            waiter.register(self.drain_fd, 1)
            waiter.poll()
            callback()

        # A real thread also where gevent has patched `threading`.
        start_new_thread(wait, ())


class Backend(Protocol):
    """One way to serve; one instance for each worker, created without arguments."""

    traits: ClassVar[Traits]

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve `app` on all of `listeners`, which listen and are non-blocking, until drained.

        Returns when nothing is in flight any more. Raises BackendError with one line if it cannot serve.
        """
        ...
