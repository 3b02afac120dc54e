"""Which signals are blocked while a worker executes itself again, and how its threads leave them to the main one.

A signal for the process may be handled by any thread that does not block it (signal(7)), but Python's handlers run in
the main thread, whose system call is interrupted only if the kernel has chosen that.
"""

from __future__ import annotations

import signal

__all__ = ["BLOCKED", "PULSE", "leave_signals_to_main"]

BLOCKED = frozenset(
    {
        *(signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1),
        *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
    }
)
"""Signals that stop or reload a worker, and those of timers, which would end it without a handler."""


PULSE = 0.5
"""Seconds that the main thread waits at a time where nothing but a signal may end the wait.

Python's handlers run between its bytecodes. A signal that comes after the last of them and before the system call, or
that another thread takes, does not interrupt the wait.
"""


def leave_signals_to_main() -> None:
    """Block them in the calling thread; called at the start of our threads."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
