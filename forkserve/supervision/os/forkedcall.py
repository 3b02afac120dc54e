"""Runs a function in a forked child, while the loop goes on: for what may block, such as a file, a name, a directory.

Theory of operation. The child runs the function, sends its result or exception through a pipe, pickled, and ends. The
loop collects the bytes, decodes them, and calls back once, from a callback that begins then: with the result, with the
exception, or with CallFailedError if the child was killed at its deadline or has died. A read of a FIFO, of a hung
network drive or of a directory service cannot be interrupted otherwise; a thread blocked in one would outlive every
deadline.

Rules: the child is a fork and executes nothing, so the function must not rely on descriptors (all but standard error
and the pipe are closed) nor change anything that lasts. It is reaped with the other children of this process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from forkserve.errors import ForkserveError
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.unix.fork_function import fork_companion

__all__ = ["ForkedCall", "CallFailedError", "call_in_fork"]

T = TypeVar("T")
PORTION = 65536


class CallFailedError(ForkserveError):
    """The child gave no answer: it was too slow, or has died. The text completes "reading the configuration ..."."""


class ForkedCall(Generic[T]):
    """One call in progress; see `call_in_fork`."""

    def __init__(self, loop: Loop, pid: int, reading: int, then: Callable[[T | Exception], None]) -> None:
        self.pid = pid
        self._loop = loop
        self._reading = reading
        self._then = then
        self._data = bytearray()
        self._timer: Timer | None = None
        self._reaped = False
        loop.watch(reading, selectors.EVENT_READ, lambda _events: self._read())

    def expire_in(self, timeout: float) -> None:
        """Kill the child unless it has answered in `timeout` seconds."""
        self._timer = self._loop.call_later(timeout, partial(self._expire, timeout))

    def cancel(self) -> None:
        """Kill the child, and never call back; after it has called back this does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._reading >= 0:
            self._close()
            self._kill()

    def reaped(self, pid: int) -> None:
        """Note that a pid has been reaped: if it is the child's, it is never signalled again."""
        self._reaped = self._reaped or pid == self.pid

    def _expire(self, timeout: float) -> None:
        self.cancel()
        self._then(CallFailedError(f"took longer than {timeout:g} s"))

    def _read(self) -> None:
        portion = os.read(self._reading, PORTION)
        self._data += portion
        if not portion:
            self._close()
            self._timer = self._loop.call_at(self._loop.now(), partial(self._then, self._answer()))

    def _answer(self) -> T | Exception:
        try:
            answer: T | Exception = pickle.loads(bytes(self._data))
        except Exception as error:  # noqa: BLE001 - cut short, or of a class that does not pickle
            return CallFailedError(f"gave no answer ({type(error).__name__})" if self._data else "has died")
        return answer

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._reading)
        os.close(self._reading)
        self._reading = -1

    def _kill(self) -> None:
        if not self._reaped:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):  # it leads a group: the programs that it has started
                os.killpg(self.pid, signal.SIGKILL)


def call_in_fork(
    loop: Loop, function: Callable[[], T], then: Callable[[T | Exception], None], *, title: str, timeout: float
) -> ForkedCall[T]:
    """Call `function` in a child and `then` with its result or its exception, within `timeout` seconds.

    Raises OSError, with no child, when descriptors or processes have run out.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = fork_companion(title, lambda: _send(writing, function), standard={2: 2}, keep=writing)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    call: ForkedCall[T] = ForkedCall(loop, pid, reading, then)
    call.expire_in(timeout)
    return call


def _send(writing: int, function: Callable[[], Any]) -> None:
    """Run in the child: send the outcome as one pickle."""
    try:
        outcome = function()
    except Exception as error:  # noqa: BLE001 - it is the caller's to judge
        outcome = error
    data = memoryview(pickle.dumps(outcome))
    while data:
        data = data[os.write(writing, data) :]
