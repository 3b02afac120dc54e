"""meinheld 1.0.2, for applications that depend on it: only a build that passed the contract, only behind a proxy, never
chosen.

Rules: the original serves on Python 3.8 and 3.9 only (`--python`, see `forkserve.backends.other_python`); here the
patched build serves, which `build.py` makes. `meinheld_loop.refusal` decides what is refused, and why.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.other_python import meinheld_loop
from forkserve.backends.other_python.flight import Flight
from forkserve.backends.other_python.mistakes import UserError
from forkserve.backends.shim import Shim
from forkserve.errors import BackendError

__all__ = ["Meinheld"]

_STOPPING = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


def _probe() -> str | None:
    """Return why the installed meinheld cannot serve, None if it can."""
    try:
        meinheld_loop.import_server()
    except (ImportError, UserError) as error:
        return str(error)
    return None


class _Stop:
    """The draining of a `Run`, with the signals' wake-up: no Python runs while meinheld's C loop sleeps."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.wake, write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(write, False)
        self.fds = [self.wake, run.drain_fd]
        self.earlier = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    @property
    def graceful(self) -> float:
        return self.run.time_left()

    def listen(self) -> None:
        for number in _STOPPING:
            signal.signal(number, signal.getsignal(number))

    def take(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self.wake, 64)
            if self.earlier >= 0:
                with contextlib.suppress(OSError):
                    os.write(self.earlier, numbers)
        return self.run.draining

    def ready(self) -> None:
        self.run.ready()


class Meinheld:
    """meinheld on inherited sockets."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="a greenlet for each request; blocking code blocks all",
        honours=frozenset({"graceful_timeout", "keep_alive", "max_body"}),
        repairs=frozenset({Repair.HEAD, Repair.HEADERS, Repair.NAMES, Repair.ADDRESS}),
        weaknesses=(
            "for compatibility only, behind a proxy: a fuzzer kills the original within 500 requests, expect crashes",
            "lenient parser",
            "unmaintained since 2020",
        ),
        requires=("meinheld",),
        install="forkserve-worker --install-backend meinheld",
        probe=_probe,
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        flight = Flight(Shim(app, frozenset({Repair.NAMES, Repair.ADDRESS}), listeners, run))
        timeouts, http = run.options.timeouts, run.options.http
        stop = _Stop(run)
        try:
            meinheld_loop.serve(flight, listeners, stop, keep_alive=timeouts.keep_alive, max_body=http.max_body)
        except ImportError as error:
            raise BackendError(f"meinheld cannot be imported: {error}; {self.traits.install}") from None
        except UserError as error:
            raise BackendError(str(error)) from None
