"""Lets a listening socket run empty: new connections stay out, those that have begun come in.

Theory of operation. Closing a listener resets whatever waits in its queue, and what arrives between the last check and
close(2) as well. So it is sealed first: a socket filter (SO_ATTACH_FILTER, socket(7), classic BPF) drops each SYN and
nothing else. A client whose SYN was dropped sends it again after a second, and finds the program that then has the
address, or is refused. Handshakes in progress end as usual, so after a moment the queue only gets shorter.

The file of a Unix socket is removed instead. Only shutdown(2) keeps clients from an abstract one; after it what waits
can still be accepted, then accept(2) fails with EINVAL (unix(7), and unix_accept in the kernel). On systems without
such filters nothing is dropped, and a connection that arrives at the instant of closing may be reset.
"""

from __future__ import annotations

import array
import contextlib
import select
import socket
import struct
from socket import AddressFamily, SocketKind

from forkserve.unix.queues import queue_length

__all__ = ["is_shut", "is_waiting", "seal", "unseal"]

_POLLRDHUP = getattr(select, "POLLRDHUP", 0x2000)

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
"""asm-generic/socket.h; the module `socket` does not name them."""

_NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x54, 0, 0, 0x12),  # SYN and ACK alone
    (0x15, 0, 1, 0x02),  # SYN without ACK:
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else: keep it whole
)
"""struct sock_filter of linux/filter.h: code, jump if true, jump if false, operand."""


def seal(sock: socket.socket) -> None:
    """Let no new connection into the queue of a TCP listener; others stay as they are."""
    if not _is_tcp(sock):
        return
    program = b"".join(struct.pack("=HBBI", *each) for each in _NO_SYN)
    memory = array.array("B", program)
    with contextlib.suppress(OSError):
        described = struct.pack("@HP", len(_NO_SYN), memory.buffer_info()[0])
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def unseal(sock: socket.socket) -> None:
    """Accept connections again; without a seal it does nothing."""
    if _is_tcp(sock):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def is_waiting(sock: socket.socket) -> bool:
    """Tell whether something waits in its queue to be accepted, or to be received."""
    if is_shut(sock):  # it is readable for ever
        length = queue_length(sock)
        return length is not None and length.waiting > 0
    return bool(_events(sock) & select.POLLIN)


def is_shut(sock: socket.socket) -> bool:
    """Tell whether a Unix socket refuses clients since it was shut down."""
    return sock.family is AddressFamily.AF_UNIX and bool(_events(sock) & _POLLRDHUP)


def _events(sock: socket.socket) -> int:
    poller = select.poll()
    poller.register(sock, select.POLLIN | _POLLRDHUP)
    return next((events for _, events in poller.poll(0)), 0)


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (AddressFamily.AF_INET, AddressFamily.AF_INET6) and sock.type is SocketKind.SOCK_STREAM
