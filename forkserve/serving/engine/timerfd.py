"""A timer that is a descriptor (timerfd_create(2)), so that any loop can wait for it. Linux only.

The standard library has it from Python 3.13 on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

__all__ = ["arm", "clear", "create"]

if sys.version_info >= (3, 13):

    def create() -> int:
        """Return a descriptor that is non-blocking and not inherited."""
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def arm(fd: int, seconds: float) -> None:
        """Make it readable once, after this many seconds, more than 0; raises OSError."""
        os.timerfd_settime(fd, initial=seconds)

else:
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)

    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def create() -> int:
        """Return a descriptor that is non-blocking and not inherited."""
        return _checked(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def arm(fd: int, seconds: float) -> None:
        """Make it readable once, after this many seconds, more than 0; raises OSError."""
        # struct itimerspec: the interval, which is none, then the first expiry; time_t and long are both long here.
        spec = (ctypes.c_long * 4)(0, 0, int(seconds), int(seconds % 1 * 1e9))
        _checked(_libc.timerfd_settime(fd, 0, spec, None))


def clear(fd: int) -> None:
    """Make it unreadable again."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 8)
