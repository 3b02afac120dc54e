"""Socket activation: wakes a watcher that waits for a connection (`on_demand`) when one is in its queue.

Theory of operation. After every event, the loop watches the sockets of those changed watchers that wait. Readiness is
level-triggered, so a connection that arrived before is seen as well. Watching ends with the wake: the processes that
start take what waits.

Rules: it watches duplicates of the descriptors, since two watchers may share a socket, and a pool may close one that is
being watched; a duplicate is closed after the same event.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from forkserve.socketpool import SocketPool
from forkserve.supervision.os.loop import Loop

__all__ = ["Activation"]


class Reading(Protocol):
    """What it needs of the command of a watcher."""

    @property
    def queues(self) -> tuple[int, ...]:
        """Numbers of the queues that a process can read from."""


class Waiter(Protocol):
    """What it needs of a watcher."""

    name: str

    @property
    def command(self) -> Reading:
        """The command of its next process."""

    @property
    def is_waiting(self) -> bool:
        """True while it waits for a connection."""

    def wake(self) -> None:
        """Called when a connection waits."""


class Activation:
    """The waiting watchers, by name, and the duplicates that are watched for them, by the inode of the socket."""

    def __init__(self, pool: SocketPool, loop: Loop) -> None:
        self._pool = pool
        self._loop = loop
        self._waiting: dict[str, Waiter] = {}
        self._watched: dict[int, int] = {}

    def note(self, watcher: Waiter) -> None:
        """Note whether a watcher waits; called when it has changed."""
        if watcher.is_waiting:
            self._waiting[watcher.name] = watcher
        else:
            self._waiting.pop(watcher.name, None)

    def update_watched(self) -> None:
        """Watch the sockets of waiting watchers, and no others; called after every event."""
        if not self._waiting and not self._watched:
            return
        self._waiting = {name: each for name, each in self._waiting.items() if each.is_waiting}
        wanted = {_inode(sock): sock for watcher in self._waiting.values() for sock in self._sockets(watcher)}
        for inode in self._watched.keys() - wanted.keys():
            fd = self._watched.pop(inode)
            self._loop.unwatch(fd)
            os.close(fd)
        for inode in wanted.keys() - self._watched.keys():
            fd = self._watched[inode] = os.dup(wanted[inode].fileno())
            self._loop.watch(fd, selectors.EVENT_READ, partial(self._wake, inode))

    def _sockets(self, watcher: Waiter) -> Iterator[socket.socket]:
        for number in watcher.command.queues:
            listener = self._pool.queues.get(number)
            if listener is not None and listener.is_open:
                yield from listener.sockets

    def _wake(self, inode: int, _events: int) -> None:
        for watcher in tuple(self._waiting.values()):
            if any(_inode(sock) == inode for sock in self._sockets(watcher)):
                watcher.wake()


def _inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino
