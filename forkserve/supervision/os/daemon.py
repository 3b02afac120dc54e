"""Daemonising without a false success: the calling process ends when the daemon has started, or failed.

Three processes, as daemon(7) has it: the calling one waits for the intermediate one, which leads the new session and
waits until the daemon has settled, or has failed with an exit code, which is passed on.

Until then the output of the daemon and its children reaches the old stderr through a pipe that the daemon itself reads.
Children keep its writing end, so it is read until the daemon ends; once settled, what arrives is dropped.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from forkserve.unix.descriptors import descriptor, number_of

__all__ = ["Detached", "detached"]

AT_ONCE = 65_536


class Detached:
    """A daemon on its way: `fileno()` is readable when `relay()` has something to do."""

    def __init__(self, settling: int) -> None:
        self._settling: int | None = settling
        self._errors = os.dup(2)
        self._pipe, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writing, True)
        null = os.open(os.devnull, os.O_RDWR)
        for fd, target in ((0, null), (1, writing), (2, writing)):
            os.dup2(target, fd)
        os.close(null)
        os.close(writing)

    def to_data(self) -> dict[str, Any]:
        """Return its descriptors as plain data."""
        return {
            "settling": descriptor(-1 if self._settling is None else self._settling),
            "errors": descriptor(-1 if self._settling is None else self._errors),
            "pipe": descriptor(self._pipe),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Detached:
        """Return the daemon again, in the same process."""
        daemon = cls.__new__(cls)
        settling = number_of(data["settling"])
        daemon._settling = None if settling < 0 else settling
        daemon._errors, daemon._pipe = number_of(data["errors"]), number_of(data["pipe"])
        return daemon

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._pipe

    def relay(self) -> None:
        """Pass on output, while the start is waited for; drop it afterwards."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._pipe, AT_ONCE):
                if self._settling is not None:
                    with contextlib.suppress(OSError):  # no reader
                        os.write(self._errors, data)

    def settled(self) -> None:
        """Let the calling process end with success; a second call does nothing."""
        if self._settling is None:
            return
        self.relay()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
        with contextlib.suppress(BrokenPipeError):  # the process that waited has been killed
            os.write(self._settling, b"\0")
        os.close(self._settling)
        os.close(self._errors)
        self._settling = None

    def failed(self) -> None:
        """Write further output directly to the old stderr."""
        if self._settling is not None:
            self.relay()
            os.dup2(self._errors, 2)


@contextlib.contextmanager
def detached() -> Iterator[Detached]:
    """Run the body in the background; yields the function to call once it has settled.

    A body that ends before has failed to start: its errors can be written to the old stderr.
    """
    daemon = Detached(_leave())
    try:
        yield daemon
    finally:
        daemon.failed()


def _leave() -> int:
    """Return only in the daemon, with the descriptor to write to when it has settled."""
    reading, writing = os.pipe()
    between = os.fork()
    if between > 0:
        _end_by_signals()
        os.close(writing)  # else the end of the daemon would never be the end of the pipe
        os._exit(_code_of(between))
    os.setsid()
    daemon = os.fork()
    if daemon > 0:
        _end_by_signals()
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else _code_of(daemon))
    os.close(reading)
    return writing


def _end_by_signals() -> None:
    """Let a waiting process be ended from the terminal; the master's handlers would only queue the signal."""
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _code_of(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
