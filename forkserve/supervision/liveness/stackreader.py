"""Asks a worker for the stacks of its threads, tasks and greenlets, by a signal, and reads what it leaves in memory.

The worker writes the number of a memfd in its page of the scoreboard (`serving.stackdump`). Nothing in that page is
trusted: the signal goes only to a process that has a handler for it, and what is opened must be a memfd of this name.
Otherwise a worker could make a master of another user read what the worker may not read itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from forkserve.supervision.os.condition import condition_of
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.process import Process
from forkserve.unix.counters import STACKS_END, STACKS_NAME, STACKS_SIGNAL
from forkserve.unix.scoreboard import Scoreboard

__all__ = ["StackReader"]

PAUSE = 0.02
"""Seconds between two reads of the memory."""
QUIET = 0.5
"""Seconds without more after which a dump that has begun counts as complete: its main thread does not run Python."""
PATIENCE = 2.0
"""Seconds for the whole dump."""
MOST = 256 * 1024
"""Most bytes that are read."""
NOTHING = "(it has left no stacks)"


class StackReader:
    """One request at a time for one process."""

    def __init__(self, loop: Loop, board: Scoreboard) -> None:
        self._loop = loop
        self._board = board
        self._fd = -1
        self._begun = self._changed = 0.0
        self._offset = self._size = 0
        self._then: Callable[[str], None] = lambda _text: None

    def ask(self, process: Process, then: Callable[[str], None]) -> None:
        """Call `then` once with the stacks, or with a line that says why there are none; at once, or when they
        have arrived.
        """
        if process.is_zygote:
            then("(a zygote tells no stacks: its signals stay as the workers that it forks find them)")
            return
        condition = condition_of(process.pid)
        reading = self._board.page(process.record) if process.record >= 0 else None
        if reading is None or reading.stacks < 0 or condition is None or not condition.catches(STACKS_SIGNAL):
            then("(it tells no stacks: only sync, threads, gevent and asgi do, under a master)")
            return
        if condition.is_held:
            then("(it is stopped or traced, and tells no stacks)")
            return
        self._fd = _open(process.pid, reading.stacks)
        if self._fd < 0:
            then(NOTHING)
            return
        self._then = then
        self._begun = self._changed = self._loop.now()
        self._offset = self._size = os.fstat(self._fd).st_size
        os.kill(process.pid, STACKS_SIGNAL)
        self._loop.call_later(PAUSE, self._poll)

    def _poll(self) -> None:
        now, size = self._loop.now(), os.fstat(self._fd).st_size
        if size != self._size:
            self._changed, self._size = now, size
        if size < self._offset:  # it was full, and emptied
            self._offset = 0
        text = os.pread(self._fd, MOST, self._offset).decode("utf-8", "replace")
        whole = text.endswith(STACKS_END)
        if whole or (text and now - self._changed > QUIET) or now - self._begun > PATIENCE:
            os.close(self._fd)
            self._then(text.removesuffix(STACKS_END).strip() or NOTHING)
        else:
            self._loop.call_later(PAUSE, self._poll)


def _open(pid: int, number: int) -> int:
    """Open the memory that a process has under this descriptor; -1 if it is not the right kind."""
    path = f"/proc/{pid}/fd/{number}"
    try:
        if not os.readlink(path).startswith(f"/memfd:{STACKS_NAME}"):
            return -1
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    status, name = os.fstat(fd), os.readlink(f"/proc/self/fd/{fd}")
    if stat.S_ISREG(status.st_mode) and name.startswith(f"/memfd:{STACKS_NAME}") and not status.st_nlink:
        return fd
    os.close(fd)
    return -1
