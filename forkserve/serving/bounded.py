"""Runs what may never return, for a limited time."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

from forkserve.unix.signalmask import leave_signals_to_main

__all__ = ["run_within"]


def run_within(seconds: float, act: Callable[[], object]) -> None:
    """Call `act` on a new thread and wait for its end, at most this many seconds; a thread that hangs is left behind.

    Logging is such an act: it may wait for a lock that is never released.
    """
    done = allocate_lock()
    done.acquire()

    def run() -> None:
        leave_signals_to_main()
        try:
            act()
        finally:
            done.release()

    start_new_thread(run, ())
    done.acquire(timeout=seconds)
