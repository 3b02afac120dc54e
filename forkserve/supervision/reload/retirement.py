"""The queues that a change replaces: read until they are empty, closed when their readers have ended.

Theory of operation. While a change is undecided, its old queues must be served, since it may be taken back: the last
reader of each is *held*, that is, not told to stop although it has been replaced. When the change is decided, the
queues without a name are sealed, so that they can only get shorter; the held readers empty them, and are released.

A queue is closed when nothing reads from it and nothing waits in it. One whose readers were stopped keeps what waits:
when its watcher serves again, an extra process is started for it (`rereading`), which is held like the others.

Rules: `is_held` decides, purely; the rest carries it out. All state is numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from forkserve.socketpool import SocketPool
from forkserve.supervision.events import Event, SocketClosed, SocketRetired
from forkserve.supervision.spawning.command import ProcessTemplate

__all__ = ["Reader", "Retirement", "is_held"]

QUIET = 0.25
"""Seconds for which a sealed queue must have been empty: by then handshakes in progress have ended, and what was
accepted last has been answered even by a program that stops at once.
"""

PATIENCE = 10.0
"""Seconds after the sealing within which a queue must be empty; then its last reader is too slow to wait for."""


class Reader(Protocol):
    """What it needs of a process."""

    pid: int
    queues: tuple[int, ...]

    @property
    def is_ready(self) -> bool:
        """True while it serves."""


def is_held(queues: Iterable[int], pid: int, readers: Mapping[int, Set[int]], unread: Set[int]) -> bool:
    """Tell whether a replaced process must go on: it is the last that serves a queue of `unread`.

    `readers` are the pids that serve each queue now, its own included.
    """
    return any(number in unread and readers.get(number, frozenset()) <= {pid} for number in queues)


@dataclass(slots=True)
class Retirement:
    """`sealed` has the instant since when a queue has readers and is to be emptied, `filled` that of its last content.

    `held` are pids. `origins` are the watchers of a queue, each with its name of the socket.
    """

    pool: SocketPool
    processes: Callable[[], Iterable[Reader]]
    emit: Callable[[Event], None]
    sealed: dict[int, float] = field(default_factory=dict)
    filled: dict[int, float] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    origins: dict[int, frozenset[tuple[str, str]]] = field(default_factory=dict)
    awaited: Callable[[], Set[int]] = frozenset
    """Called for the queues whose last readers have died, and are being started again."""

    def hold(self, process: Reader) -> bool:
        """Hold a replaced process that is to be stopped, if it is the last reader of a retired queue."""
        if is_held(process.queues, process.pid, self._readers(), self.pool.retired):
            self.held.add(process.pid)
            return True
        return False

    def remember(self, commands: Iterable[ProcessTemplate]) -> None:
        """Record which process reads from which queue."""
        for command in commands:
            for name, number in command.numbers.items():
                if name in command.all_sockets:
                    pair = (command.options.name.lower(), name)
                    self.origins[number] = self.origins.get(number, frozenset()) | {pair}

    def begin(self) -> None:
        """Set the queues that have just been retired; those with a name again are no longer sealed."""
        self.sealed = {number: instant for number, instant in self.sealed.items() if number in self.pool.retired}
        for number in self.pool.retired - self.sealed.keys():
            listener = self.pool.listener(number)
            self.emit(SocketRetired(socket=listener.name, address=listener.address))

    def seal(self, now: float) -> None:
        """Seal every retired queue: the change is decided."""
        for number in self.pool.retired - self.sealed.keys():
            self.pool.seal(number)
            self.sealed[number] = self.filled[number] = now

    def is_drained(self, now: float) -> bool:
        """True when no sealed queue has anything left in it that will be taken."""
        return not any(self._is_filled(number, now) for number in self.sealed)

    def to_stop(self, now: float, *, undecided: bool) -> set[int]:
        """Return the held processes that are no longer needed, and forget them.

        While a change is `undecided`, they are needed as long as no other process serves their queues.
        """
        if not self.held:
            return set()
        readers = self._readers()
        living = {each.pid: each for each in self.processes()}
        if undecided:
            unread = self.pool.retired | frozenset(self.pool.numbers.values())
        else:
            unread = frozenset(number for number in self.sealed if self._is_filled(number, now))
        going = {
            pid
            for pid in self.held
            if pid not in living or (living[pid].is_ready and not is_held(living[pid].queues, pid, readers, unread))
        }
        self.held -= going
        return going & living.keys()

    def unread(self) -> Iterator[int]:
        """Iterate over the sealed queues from which nothing reads although something waits in them."""
        used = self._used()
        for number in self.sealed.keys() & self.pool.retired:
            if number not in used and self.pool.listener(number).is_waiting:
                yield number

    def _used(self) -> set[int]:
        return {number for each in self.processes() for number in each.queues} if self.sealed else set()

    def shut_unread(self, needed: Callable[[], Set[int]]) -> None:
        """Close the sealed queues that are to be closed, of the kind that could not be sealed, to new clients."""
        unused = self.sealed.keys() & self.pool.retired - self._used()
        for number in unused - needed() if unused else ():
            self.pool.shut(number)

    def close_unread(self, needed: Callable[[], Set[int]]) -> None:
        """Close the sealed queues from which nothing reads any more, except those `needed`."""
        unused = self.sealed.keys() - self._used()
        for number in sorted(unused - needed() if unused else ()):
            del self.sealed[number]
            self.origins.pop(number, None)
            self.filled.pop(number, None)
            if number in self.pool.retired:
                listener = self.pool.listener(number)
                closed = SocketClosed(socket=listener.name, address=listener.address, reset=listener.is_waiting)
                self.pool.discard(number)
                self.emit(closed)

    def release_unwanted(self, wanted: Callable[[], Set[int]]) -> None:
        """Close the sockets with `keep = False` that no running watcher wants; the next start binds them again."""
        brief = {number for number in self.pool.numbers.values() if not self.pool.listener(number).options.keep}
        if not brief:
            return
        for number in brief - {number for each in self.processes() for number in each.queues} - wanted():
            listener = self.pool.listener(number)
            if listener.is_open:
                closed = SocketClosed(socket=listener.name, address=listener.address)
                self.pool.release(number)
                self.emit(closed)

    def _readers(self) -> dict[int, set[int]]:
        readers: dict[int, set[int]] = {}
        for each in self.processes():
            for number in each.queues if each.is_ready else ():
                readers.setdefault(number, set()).add(each.pid)
        return readers

    def _is_filled(self, number: int, now: float) -> bool:
        """Tell whether a queue may contain something that its readers will take."""
        if number not in self.pool.retired:
            return False
        if number not in self._used() and number not in self.awaited():
            self.sealed[number] = self.filled[number] = now  # its time begins with its readers
            return False
        if now - self.sealed[number] > PATIENCE:
            return False
        if self.pool.listener(number).is_waiting:
            self.filled[number] = now
        return now - self.filled.get(number, 0.0) < QUIET
