"""What a connection waits for, and what it asks epoll for."""

from __future__ import annotations

import select
from enum import IntEnum

__all__ = ["READABLE", "UNHEARD", "WRITABLE", "ConnectionLost", "Phase"]

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
UNHEARD = 262_144
"""Bytes that are read from a client after its answer, so that it gets to read that (RFC 9112 section 9.6); as in Go."""


class Phase(IntEnum):
    """What a connection waits for; each has its time limit. Up to BODY it is bytes of a request."""

    FIRST_BYTE = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    RUNNING = 4
    LINGERING = 5
    CLOSED = 6


class ConnectionLost(OSError):
    """The client has gone, or does not read: whatever is written goes nowhere."""
