"""A listening socket as the loop sees it: accepting in batches, pausing when there is no room."""

from __future__ import annotations

import errno
import functools
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from forkserve.serving.engine.native import Socket, poll
from forkserve.serving.http.request import Profile, RequestReader

__all__ = ["ACCEPTS", "EXHAUSTED", "Listening"]

ACCEPTS = 16
"""Connections taken at one wake-up: a burst is cheap, and a sibling on the same queue still gets its share."""
UNCOUNTED = 4096
"""Assumed number of waiting connections of a Unix socket: the kernel's own limit (net.core.somaxconn)."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of accept(2) when the process or the system can take no more."""


class Listening:
    """One listener; `environ` is what all its requests have in common.

    It has its own profile, so that what an interface keeps with shared fields may depend on the listener. `spare`
    is the reader for the next request; a connection whose head is incomplete keeps it, and a new one is created.
    """

    __slots__ = (
        "_accept",
        "_info",
        "_kind",
        "_poll",
        "environ",
        "fd",
        "paused_until",
        "profile",
        "proxy_header",
        "sock",
        "spare",
        "tls",
    )

    def __init__(self, sock: socket.socket, environ: Any, profile: Profile) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        # A master leaves it blocking, and a loop that waited in accept(2) would serve no other connection.
        os.set_blocking(self.fd, False)
        self._kind = (sock.family, sock.type, sock.proto)
        # gevent's socket is a wrapper around the real one.
        self._accept = functools.partial(Socket._accept, getattr(sock, "_sock", sock))  # type: ignore[attr-defined]
        self._info = functools.partial(getattr(sock, "_sock", sock).getsockopt, socket.IPPROTO_TCP, socket.TCP_INFO, 28)
        self._poll: Any = None
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            self._poll = poll()
            self._poll.register(self.fd, select.POLLIN)
        self.environ = environ
        self.profile = profile
        self.spare = RequestReader(profile)
        self.paused_until = 0.0
        self.proxy_header: Any = None
        self.tls: Callable[[Socket], Any] | None = None

    def renew(self) -> None:
        """Create a new spare reader: the old one is in the middle of a head."""
        self.spare = RequestReader(self.profile)

    @property
    def counts(self) -> bool:
        """True if `waiting` is a number; a Unix socket only says whether there is any."""
        return self._poll is None

    def waiting(self) -> int:
        """Return how many connections wait to be accepted: for a listener, TCP_INFO has it as `tcpi_unacked`."""
        if self._poll is not None:
            return len(self._poll.poll(0))
        return int.from_bytes(self._info()[24:28], sys.byteorder)

    def in_queue(self) -> int:
        """Return the most connections that may be waiting; 0 only if none is."""
        waiting = self.waiting()
        return waiting if self.counts or not waiting else UNCOUNTED

    def waited(self, sock: Any) -> float:
        """Return for how many seconds a connection has waited in the queue; 0 if the kernel does not know.

        Nothing was sent on it yet, so `tcpi_last_data_sent` is the time since its handshake in milliseconds (tcp(7)).
        """
        if self._poll is not None:
            return 0.0
        return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 48)[44:48], sys.byteorder) / 1000

    def accept(self, limit: int) -> Iterator[tuple[Any, Any]]:
        """Yield what waits in the queue, at most `limit`; raises an OSError of EXHAUSTED if no more can be taken."""
        for _ in range(limit):
            try:
                fd, peer = self._accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    raise
                # accept(2): the rest (ECONNABORTED, EPROTO, network errors) belong to one connection, not to us.
                continue
            try:
                sock = Socket(*self._kind, fileno=fd)
            except BaseException:
                # Out of memory: nothing else knows of the descriptor, and its client would wait for ever.
                os.close(fd)
                raise
            sock.setblocking(False)
            try:
                # A PROXY header comes before TLS.
                yield sock if self.tls is None or self.proxy_header is not None else self.tls(sock), peer
            except OSError:
                # TLS asks for the peer's address, and the peer has gone.
                sock.close()
