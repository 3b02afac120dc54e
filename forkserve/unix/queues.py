"""What the kernel knows about a listening socket's queue: how many connections wait, and since when the oldest does.

TCP: TCP_INFO of a listener has the length of its queue as `tcpi_unacked` and its limit as `tcpi_sacked` (tcp(7),
tcp_get_info). sock_diag(7) lists a connection that has not been accepted without an inode; nothing was sent on it, so
`tcpi_last_data_sent` is the time since its handshake ended, in milliseconds. For a Unix socket sock_diag returns the
length and the limit (UDIAG_SHOW_RQLEN), and no age.

Rules: nothing here waits. What the kernel does not tell, for lack of a module or a permission, is None.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["QueueLength", "is_connected", "oldest_in", "queue_length", "whole_length"]

_SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG, and the parts of its protocol in use (linux/sock_diag.h, inet_diag.h, unix_diag.h)."""
_BY_FAMILY, _REQUEST, _DUMP = 20, 0x1, 0x301
_ERROR, _DONE = 2, 3
_ESTABLISHED = 1
_WITH_INFO, _INFO = 1 << 1, 2
_RQLEN = 0x10
_RQLEN_ATTRIBUTE = 4
_HEADER = struct.Struct("=IHHII")
_LAST_SENT = 44
"""Offset of `tcpi_last_data_sent` in struct tcp_info."""
_MOST = 64
"""Portions that are read of one answer: some 200 connections each."""


@dataclass(frozen=True, slots=True)
class QueueLength:
    """Connections that wait in a queue, and how many can."""

    waiting: int
    bound: int


def queue_length(listener: socket.socket) -> QueueLength | None:
    """Return the length of the queue of a listening stream socket; None if unknown."""
    try:
        if listener.family is socket.AF_UNIX:
            return _unix_length(os.fstat(listener.fileno()).st_ino)
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return QueueLength(*struct.unpack_from("=2I", info, 24))
    except (OSError, struct.error):
        return None


def whole_length(listeners: Iterable[socket.socket]) -> QueueLength | None:
    """Return the length of several queues of one address together; None if one is unknown."""
    found = [queue_length(each) for each in listeners]
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return None
    return QueueLength(sum(each.waiting for each in known), sum(each.bound for each in known))


def oldest_in(listener: socket.socket) -> float | None:
    """Return for how many seconds the oldest connection has waited in a TCP listener's queue; None if unknown.

    Another listener on the same port, as with SO_REUSEPORT, counts as well. 0.0 for an empty queue.
    """
    if listener.family is socket.AF_UNIX:
        return None
    with contextlib.suppress(OSError, struct.error):
        port = listener.getsockname()[1]
        families = [socket.AF_INET, socket.AF_INET6] if listener.family is socket.AF_INET6 else [socket.AF_INET]
        ages = [age for family in families for age in _ages(family, port)]
        return max(ages, default=0) / 1000
    return None


def is_connected(listener: socket.socket) -> bool | None:
    """Tell whether a client is connected to the port of a TCP listener, accepted or not; None if unknown."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type is not socket.SOCK_STREAM:
        return None
    try:
        port = listener.getsockname()[1]
        families = [socket.AF_INET, socket.AF_INET6] if listener.family is socket.AF_INET6 else [socket.AF_INET]
        return any(_is_established(family, port) for family in families)
    except (OSError, struct.error):
        return None


def _is_established(family: int, port: int) -> bool:
    """Tell whether a connection to a local port is established; raises OSError."""
    asked = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 1 << _ESTABLISHED)
    place = struct.pack("!HH", port, 0) + bytes(32) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    return any(struct.unpack_from("!H", message, 4)[0] == port for message in _answers(asked + place, _DUMP))


def _ages(family: int, port: int) -> Iterator[int]:
    """Yield the milliseconds since the handshake of each connection to a local port that has not been accepted."""
    asked = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, _WITH_INFO, 0, 1 << _ESTABLISHED)
    place = struct.pack("!HH", port, 0) + bytes(32) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    for message in _answers(asked + place, _DUMP):
        (local,) = struct.unpack_from("!H", message, 4)
        (inode,) = struct.unpack_from("=I", message, 68)
        if local == port and not inode:
            for kind, value in _attributes(message[72:]):
                if kind == _INFO and len(value) >= _LAST_SENT + 4:
                    yield struct.unpack_from("=I", value, _LAST_SENT)[0]


def _unix_length(inode: int) -> QueueLength | None:
    asked = struct.pack("=BBHIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode & 0xFFFFFFFF, _RQLEN)
    for message in _answers(asked + struct.pack("=II", 0xFFFFFFFF, 0xFFFFFFFF), _REQUEST):
        for kind, value in _attributes(message[16:]):
            if kind == _RQLEN_ATTRIBUTE:
                return QueueLength(*struct.unpack_from("=2I", value))
    return None


def _answers(request: bytes, flags: int) -> Iterator[bytes]:
    """Query sock_diag(7), and yield the body of each message of its answer; raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as netlink:
        netlink.setblocking(False)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, flags, 1, 0) + request)
        for data in map(netlink.recv, [65536] * _MOST):
            for kind, body in _messages(data):
                if kind in (_DONE, _ERROR):
                    return
                yield body
            if flags == _REQUEST:
                return


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind, data[at + 4 : at + size]
        at += (size + 3) & ~3
