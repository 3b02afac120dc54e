"""The protocols of systemd that programs of any language speak: sd_notify(3) both ways, and LISTEN_FDS taken over.

As a server, the master gives each child a NOTIFY_SOCKET, an abstract socket that leaves nothing on disk, and believes
a message for the pid that the kernel vouches for (SCM_CREDENTIALS), never for one that the message names.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import MutableMapping
from dataclasses import dataclass

__all__ = ["Message", "NotifySocket", "notify", "parse", "take_listen_fds"]

_CREDENTIALS = struct.Struct("3i")
_LARGEST = 4096
_AT_ONCE = 64
_FIRST_FD = 3
_SCM_CREDENTIALS = 2
"""SCM_CREDENTIALS of <bits/socket.h>, which Python's socket module does not name."""


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram: from which process, and its assignments, e.g. {"READY": "1", "STATUS": "serving"}."""

    pid: int
    fields: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """The sender serves now."""
        return self.fields.get("READY") == "1"


def parse(data: bytes) -> dict[str, str]:
    """Return the assignments of a datagram; lines that are none are passed over, as systemd does."""
    lines = data.decode("utf-8", "replace").split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line)


class NotifySocket:
    """Where children report to. `address` goes into their NOTIFY_SOCKET."""

    def __init__(self) -> None:
        name = f"forkserve/{os.getpid()}/{os.urandom(4).hex()}"
        self.address = f"@{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{name}")

    def fileno(self) -> int:
        """Return the descriptor that is readable when messages wait."""
        return self._socket.fileno()

    def take(self) -> list[Message]:
        """Return messages that have come, oldest first; some may be left, and then the descriptor stays readable.

        Descriptors sent along (FDSTORE=1, BARRIER=1) find no room, so that the kernel closes them at once.
        """
        messages: list[Message] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):  # whoever writes without end must not keep the loop here
                data, ancillary, _flags, _address = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
                for level, kind, payload in ancillary:
                    if level == socket.SOL_SOCKET and kind == _SCM_CREDENTIALS:
                        pid, _uid, _gid = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])
                        messages.append(Message(pid, parse(data)))
        return messages

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def notify(text: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Tell whoever started this process, e.g. `READY=1`; True if somebody was there to be told.

    Never blocks and never fails: a supervisor that has gone away is no reason to stop serving.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(text.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
        return True
    return False


def take_listen_fds(environ: MutableMapping[str, str] = os.environ) -> dict[str, int]:
    """Return the descriptors handed to this process, by name, and forget them for our children (sd_listen_fds(3)).

    Only those meant for us count: LISTEN_PID must be our pid. Names that are missing become `unknown`, as in systemd,
    and a name met again gets its number behind it, since a name must lead to one socket.
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
