"""The guard of a master whose processes serve on when it is killed: it holds what the next master needs.

Theory of operation. Beside the groups, the keeper gets the state of the master after each change, and the descriptors
that it names (`keep`). It has all of them open, so sockets stay bound, pipes whole, and messages of processes
wait. What it does when the master dies is in `holding`, how another master takes over in `taking`.

Rules: until the first `arm` it does nothing at the end, so that it can be made beside the keeper of another master. A
descriptor is known by its number and by what it leads to: numbers are used again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from forkserve.supervision.keeper.protocol import portions, send
from forkserve.supervision.keeper.server import run_keeper
from forkserve.supervision.os.guard import RECORD, Guard
from forkserve.supervision.os.reexec import sealed
from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.fork_function import fork_companion

__all__ = ["Keeper"]

Identity = tuple[int, int, int]
"""Device, inode and type of file."""


class Keeper(Guard):
    """The master's end; `listener` is the socket at which the next master asks, which stays the caller's.

    Raises OSError when it cannot be forked.
    """

    name = "keeper"

    def __init__(self, listener: int, *, mark: str = "") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._unsent = deque()
        self._held: dict[int, Identity] = {}
        with ours, theirs:
            self.pid = fork_companion(
                "forkserve: keeper",
                lambda: run_keeper(theirs.fileno(), mark),
                standard={2: 2},
                keep=theirs.fileno(),
            )
            send(ours, {"listen": os.getpid()}, [listener])
            ours.setblocking(False)
            self._writing = ours.detach()

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Keeper:
        """Return the master's end again; the next `keep` sends everything once more."""
        keeper = cls.__new__(cls)
        keeper.pid, keeper._writing, keeper._held = data["pid"], number_of(data["fd"]), {}
        keeper._unsent = deque(RECORD.pack(*each) for each in data["unsent"])
        return keeper

    def to_data(self) -> dict[str, Any]:
        """Return the master's end as plain data."""
        return {
            "pid": self.pid,
            "fd": descriptor(self._writing),
            "unsent": [list(RECORD.unpack(each)) for each in self._unsent],
        }

    def arm(self, decided: int = -1) -> None:
        """Have it act when the master dies; with a pipe, only if that has data by then."""
        with self._channel() as channel:
            send(channel, {"arm": True}, [decided] if decided >= 0 else [])

    def farewell(self) -> None:
        """Have all groups end with the master from now on, and with an orderly end whatever else was started by us."""
        with self._channel() as channel:
            send(channel, {"farewell": True})

    def note_ready(self, pid: int) -> None:
        """State at once that a process serves: what it has said is not in its queue any more."""
        with contextlib.suppress(OSError), self._channel() as channel:
            send(channel, {"ready": pid})

    def keep(self, state: bytes, fds: Collection[int], *, patience: float = 0.0) -> bool:
        """Have it hold these descriptors, and this state; False when it cannot take them now.

        Waits `patience` seconds at each step. Raises OSError when descriptors have run out, or the keeper has died.
        """
        found = {fd: _identity(fd) for fd in fds}
        changed = [fd for fd in fds if self._held.get(fd) != found[fd] or not found[fd][2]]
        gone = [fd for fd in self._held if fd not in found]
        memory = sealed(state)
        try:
            with self._channel(patience) as channel:
                send(channel, {"begin": "all" if not self._held else "more"})
                for portion in portions(gone):
                    send(channel, {"close": list(portion)})
                for portion in portions(changed):
                    send(channel, {"hold": list(portion)}, portion)
                send(channel, {"keep": os.getpid()}, [memory])
        except (BlockingIOError, TimeoutError):
            self._held = {}
            return False
        finally:
            os.close(memory)
        self._held = found
        return True

    @contextlib.contextmanager
    def _channel(self, patience: float = 0.0) -> Iterator[socket.socket]:
        """Give the channel, behind what waits to be sent; raises BlockingIOError where there is no room."""
        if not self.flush():
            raise BlockingIOError
        with socket.socket(fileno=os.dup(self._writing)) as channel:
            channel.settimeout(patience)
            yield channel


def _identity(fd: int) -> Identity:
    """Return what a descriptor leads to; the type is 0 where all of a kind look alike, as eventfd(2)s do."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode)
