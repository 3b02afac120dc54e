"""The process at the other end of a Unix socket."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

__all__ = ["Peer", "peer_of"]

_CREDENTIALS = struct.Struct("3i")


class Peer(NamedTuple):
    """The process at the other end, as it was at connect(2) or listen(2)."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """Return the credentials of the peer of a connected socket (SO_PEERCRED, unix(7)); raises OSError."""
    return Peer(*_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))
