"""The protocols of systemd that programs of any language speak: sd_notify(3) both ways, and LISTEN_FDS as a receiver.

As a server, the master gives each process its own NOTIFY_SOCKET (`unix.notifyfolder`), so a message there is from the
process or from one of its helpers, whether or not that is still alive.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, MutableMapping, Sequence

__all__ = ["PORTION", "READY_PATIENCE", "Message", "NotifySocket", "notify", "parse", "take_listen_fds"]

PORTION = 64
"""Messages taken at a time; a sender that fills it is flooding the socket."""
READY_PATIENCE = 5.0
"""Seconds for which a ready process waits for room to say so."""
_LARGEST = 4096
_FDS = 16
"""Descriptors taken from one message; further ones find no room, and the kernel closes them."""
_FIRST_FD = 3


def parse(data: bytes) -> dict[str, str]:
    """Return the assignments of a datagram; invalid lines are ignored, as by systemd."""
    lines = data.decode("utf-8", "replace").split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line)


class Message(dict[str, str]):
    """The assignments of one message; `fds` are descriptors that came along, to be closed by `close`."""

    def __init__(self, assignments: dict[str, str], fds: list[int]) -> None:
        super().__init__(assignments)
        self.fds = fds

    def close(self) -> None:
        """Close the descriptors that were not kept; for BARRIER=1 that is the answer."""
        while self.fds:
            os.close(self.fds.pop())


class NotifySocket:
    """Where one process reports to. `address` goes into its NOTIFY_SOCKET: a path, or `@` and an abstract name.

    A file is created with mode 0600. Raises OSError.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        previous = os.umask(0o177)
        try:
            self._socket.setblocking(False)
            self._socket.bind(_kernel_name(address))
        except OSError:
            self._socket.close()
            raise
        finally:
            os.umask(previous)

    @classmethod
    def restore(cls, fd: int, address: str) -> NotifySocket:
        """Return the socket again that another one held by this descriptor."""
        restored = cls.__new__(cls)
        restored.address = address
        restored._socket = socket.socket(fileno=fd)
        return restored

    def fileno(self) -> int:
        """Return the descriptor that is readable when messages wait."""
        return self._socket.fileno()

    def take(self) -> Iterator[Message]:
        """Iterate over the messages that have arrived, oldest first, at most PORTION; each is closed before the next.

        So a sender that waits for its BARRIER=1 knows that all its earlier messages were processed.
        """
        for _ in range(PORTION):
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, _LARGEST, _FDS, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            message = Message(parse(data), list(fds))
            try:
                yield message
            finally:
                message.close()

    def close(self) -> None:
        """Stop listening, and remove the file."""
        self._socket.close()
        if self.address.startswith("/"):
            with contextlib.suppress(OSError):  # a cleaner was first
                os.unlink(self.address)


def notify(
    text: str,
    environ: MutableMapping[str, str] = os.environ,
    *,
    patience: float = 0.0,
    fds: Sequence[int] = (),
) -> bool:
    """Notify the supervisor of this process, e.g. `READY=1`, and send it descriptors; True if that is possible.

    Waits for room in its queue, at most `patience` seconds. Never fails: a supervisor that has gone away is no reason
    to stop serving.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        if patience > 0:
            seconds = int(patience)
            limit = struct.pack("ll", seconds, int((patience - seconds) * 1e6))
            # Not settimeout(): poll(2) tells of room at the peer only for a socket that is connected.
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            sender.setblocking(False)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sender.sendmsg([text.encode()], rights, 0, _kernel_name(address))
        return True
    return False


def _kernel_name(address: str) -> str:
    return f"\0{address[1:]}" if address.startswith("@") else address


def take_listen_fds(environ: MutableMapping[str, str] = os.environ) -> dict[str, int]:
    """Return the descriptors passed to this process, by name, and hide them from our children (sd_listen_fds(3)).

    Only those meant for us count: LISTEN_PID must be our pid. Missing names become `unknown`, as in systemd, and a
    repeated name gets its number appended, since a name must lead to one socket.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    taken: dict[str, int] = {}
    for index, fd in enumerate(range(_FIRST_FD, _FIRST_FD + int(count))):
        try:
            os.set_inheritable(fd, False)
        except OSError:  # fewer are open than were promised: a shell script in between has closed them
            break
        name = names[index] if index < len(names) and names[index] else "unknown"
        taken[f"{name}-{fd}" if name in taken else name] = fd
    return taken
