"""A conversation with a worker, as far as it has come: a client that never blocks."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from time import monotonic
from typing import Any

from tests.fuzz.conversations import Conversation, Leave

__all__ = ["Talk"]

PATIENCE = 20.0
"""Seconds until a connection must have ended: several of the workers' own time limits."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
NO_LINGER = struct.pack("ii", 1, 0)


class Talk:
    """Says the pieces one at a time, reads what comes, leaves as it is told."""

    def __init__(self, said: Conversation, address: Any, selector: selectors.BaseSelector, like: Talk | None) -> None:
        self.said = said
        self.like = like
        """The same conversation with the other worker, which this one is compared with."""
        self.received = b""
        self.was_reset = False
        self.deadline = monotonic() + PATIENCE
        self._selector = selector
        self._left = list(said.pieces)
        self._reads = said.reads
        self._sock = socket.socket()
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)
        self._sock.connect_ex(address)
        selector.register(self._sock, WRITE, self)

    def go_on(self, events: int) -> bool:
        """Do what is possible; True when the conversation has ended."""
        try:
            if events & READ and self._read():
                return self.close()
            if events & WRITE and self._say():
                return self.close()
        except OSError:
            self.was_reset = True
            return self.close()
        saying = WRITE if self._left else 0
        self._selector.modify(self._sock, (READ if self._reads or not saying else 0) | saying, self)
        return False

    def close(self) -> bool:
        """Leave; returns True."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._sock)
        self._sock.close()
        return True

    def _read(self) -> bool:
        part = self._sock.recv(1 << 18)
        self.received += part
        return not part

    def _say(self) -> bool:
        """Say one piece; True when the client leaves behind the last."""
        if self._left:
            try:
                sent = self._sock.send(self._left[0])
            except BlockingIOError:
                # The worker waits for us to read.
                self._reads = True
                return False
            rest = self._left[0][sent:]
            if rest:
                self._left[0] = rest
                self._reads = True
                return False
            del self._left[0]
        if self._left:
            return False
        leave = self.said.leave
        if leave is Leave.RESETS:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        if leave is Leave.FINISHES:
            self._sock.shutdown(socket.SHUT_WR)
        return leave in (Leave.RESETS, Leave.CLOSES)
