"""What a connection waits for, and the events it needs from epoll."""

from __future__ import annotations

import select
from enum import IntEnum

__all__ = ["READABLE", "UNHEARD", "WRITABLE", "ConnectionLost", "Phase"]

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
UNHEARD = 262_144
"""Bytes that are read from a client after its answer, so that it can read that (RFC 9112 section 9.6); as in Go."""


class Phase(IntEnum):
    """What a connection waits for; each phase has its time limit. Up to BODY it is bytes of a request."""

    FIRST_BYTE = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    RUNNING = 4
    LINGERING = 5
    CLOSED = 6


class ConnectionLost(OSError):
    """The client has left, or does not read: writing is pointless."""
