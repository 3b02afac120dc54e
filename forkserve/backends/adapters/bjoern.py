"""bjoern: C over libev, one thread; fast, with few features."""

from __future__ import annotations

import os
import signal
import socket
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from typing import ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.shim import Shim

__all__ = ["Bjoern"]

STOPS = (signal.SIGTERM, signal.SIGQUIT)


class Bjoern:
    """bjoern.server_run on an inherited socket."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="one request at a time",
        many_listeners=False,
        handles_signals=True,
        repairs=frozenset({Repair.HEAD, Repair.HEADERS, Repair.NAMES, Repair.WRITE, Repair.ADDRESS}),
        honours=frozenset({"graceful_timeout", "max_requests", "max_requests_jitter"}),
        weaknesses=("mixes up pipelined requests and bodies", "lets smuggled requests through", "no time limits"),
        requires=("bjoern|bjoern-binary",),
        install="pip install bjoern-binary",
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        import bjoern

        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # After each request, which may have taken them over.
        run.hold_signals = _translate_signals(run)
        run.ready()
        try:
            bjoern.server_run(listeners[0], Shim(app, self.traits.repairs, listeners, run))
        except KeyboardInterrupt:
            pass
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, before)


def _translate_signals(run: Run) -> Callable[[], None]:
    """Turn the stop signals into SIGINT, the only one at which bjoern's loop ends cleanly; return a function that does
    so again.

    The loop runs no Python while it waits, so no Python handler runs; but CPython's C handler writes the number of each
    signal to the wakeup descriptor, and a thread reads it there.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)

    def translate() -> None:
        while True:
            number = os.read(read, 1)[0]
            if number in STOPS:
                run.drain(signal.Signals(number).name)
                os.kill(os.getpid(), signal.SIGINT)

    def install() -> None:
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    # Not SIGINT, of which bjoern's loop has its own handler by then.
    handlers = {number: signal.getsignal(number) for number in STOPS}
    install()
    start_new_thread(translate, ())
    return install
