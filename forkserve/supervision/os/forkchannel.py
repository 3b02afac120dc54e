"""The master's end of the channel to a zygote: orders go out, and each forked worker reports its pid itself.

Theory of operation. The channel is a socketpair of SOCK_SEQPACKET, so messages are atomic, and EOF means the end of the
zygote. An order is a short message; its arguments and environment, which may be long, travel in a memfd, and the
descriptors of the worker beside it (SCM_RIGHTS). A worker sends its number on the same channel, and the kernel adds
the pid (SCM_CREDENTIALS, unix(7)): no process can claim to be another one.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
import struct
from dataclasses import dataclass

from forkserve.supervision.os.spawn import SpawnSpec

__all__ = ["MOST_DESCRIPTORS", "ForkAnswer", "ForkChannel"]

MOST_DESCRIPTORS = 250
"""SCM_MAX_FD is 253 (unix(7))."""

_SO_PASSCRED = getattr(socket, "SO_PASSCRED", 16)
_SCM_CREDENTIALS = getattr(socket, "SCM_CREDENTIALS", 2)
_CREDENTIALS = struct.Struct("3i")
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class ForkAnswer:
    """The result of an order: `pid` is that of the worker, 0 if there is none and `error` says why."""

    number: int
    pid: int
    error: str = ""
    errno: int = 0


class ForkChannel:
    """One connection to one zygote, which never blocks."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[ForkChannel, socket.socket]:
        """Return our end and the zygote's; raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
        return cls(ours), theirs

    @classmethod
    def restore(cls, fd: int) -> ForkChannel:
        """Return the channel again that another one held by this descriptor."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """Return the descriptor that is readable when an answer waits; -1 once it is closed."""
        return self._socket.fileno()

    def ask(self, number: int, spec: SpawnSpec) -> None:
        """Order a worker; raises OSError if the zygote cannot be reached."""
        places = spec.places
        given = {target: fd for target, fd in places.items() if fd is not None}
        if len(given) >= MOST_DESCRIPTORS:
            raise OSError(errno.E2BIG, f"more than {MOST_DESCRIPTORS} descriptors cannot be passed to a zygote")
        order = {
            "argv": spec.argv,
            "env": dict(spec.env),
            "sockets": list(spec.names) if spec.listen_fds else [],
            "targets": list(given),
            "empty": [target for target, fd in places.items() if fd is None],
            "master": os.getpid(),
            "death_signal": spec.death_signal,
        }
        memory = os.memfd_create("forkserve-order")
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(json.dumps(order).encode())
            os.lseek(memory, 0, os.SEEK_SET)
            rights = array.array("i", [memory, *given.values()])
            self._socket.sendmsg([b"%d" % number], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        finally:
            os.close(memory)

    def promote(self) -> None:
        """Tell a worker to become a zygote when it has drained; raises OSError."""
        self._socket.send(b"promote")

    def take(self) -> list[ForkAnswer]:
        """Return the answers that have arrived; raises EOFError if there will be no more."""
        answers: list[ForkAnswer] = []
        while True:
            try:
                data, notes, _, _ = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return answers
            except ConnectionError:
                data = b""
            if not data:
                if not answers:
                    raise EOFError
                return answers
            answer = _understood(data, _sender(notes))
            if answer is not None:
                answers.append(answer)

    def end(self) -> None:
        """Tell the zygote to end; its remaining answers can still be taken."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def hush(self) -> None:
        """Accept no more messages; those that arrived can still be taken (shutdown(2), SHUT_RD of a unix socket)."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the channel."""
        self._socket.close()


def _sender(notes: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == _SCM_CREDENTIALS:
            pid: int = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
            return pid
    return 0


def _understood(data: bytes, sender: int) -> ForkAnswer | None:
    """Return an answer, None for an invalid message: it comes from a process that runs application code."""
    try:
        said = json.loads(data)
        error = str(said.get("error", ""))
        return ForkAnswer(int(said["number"]), 0 if error else sender, error, int(said.get("errno", 0)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
