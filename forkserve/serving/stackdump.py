"""Leaves the stacks of this process in memory for the master, on a signal.

Theory of operation. The process creates a memfd and writes its number in its page of the scoreboard; the master opens
it by /proc. On the signal, `faulthandler` first writes the stacks of all threads, in the handler of the signal, in C:
so it works while C code keeps the interpreter's lock. The handler in Python follows as soon as the main thread runs
Python again, and adds what has names: threads, tasks, greenlets. STACKS_END means that nothing more follows.

Rules: the signal has no other use, and the application is not asked. A system call of C code that does not restart
after a signal may end early (signal(7)); Python's own are restarted (PEP 475).
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
from collections.abc import Callable
from types import FrameType

from forkserve.serving.engine.stacks import all_stacks
from forkserve.unix.counters import STACKS_END, STACKS_NAME, STACKS_SIGNAL, CounterField
from forkserve.unix.scoreboard import OwnRecord

__all__ = ["offer_stacks"]

LIMIT = 4 << 20
"""Bytes of earlier stacks at which the memory is emptied."""


def offer_stacks(seat: OwnRecord) -> Callable[[], None]:
    """Let the master ask; called in the main thread. Without a page of counters it does nothing.

    Returns a function that ends this and releases the memory, for a process that goes on without serving.
    """
    if seat.page is None:
        return _nothing
    try:
        fd = os.memfd_create(STACKS_NAME, os.MFD_CLOEXEC)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    except OSError:  # short of descriptors: serving is more
        return _nothing

    def tell(_number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            text = f"\n{all_stacks(frame)}{STACKS_END}"
            data = memoryview(text.encode("utf-8", "backslashreplace"))
            while data:
                data = data[os.write(fd, data) :]
            if os.fstat(fd).st_size > LIMIT:
                os.ftruncate(fd, 0)

    signal.signal(STACKS_SIGNAL, tell)
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=True, chain=True)
    fields = seat.page.cast("q")
    fields[CounterField.STACKS] = fd + 1

    def withdraw() -> None:
        fields[CounterField.STACKS] = 0
        faulthandler.unregister(STACKS_SIGNAL)
        signal.signal(STACKS_SIGNAL, signal.SIG_IGN)  # the master may have asked just now, and its default ends us
        os.close(fd)

    return withdraw


def _nothing() -> None:
    """Do nothing, where nothing was offered."""
