"""The body of a request on its way to an ASGI application: pieces wait here until `receive()` takes them.

Rules: the queue is bounded: above the mark the connection is not read until the application has caught up, so a client
sends no faster than its upload is consumed. A client that holds its body back (`Expect: 100-continue`) is asked for it
at the first `receive()`.
"""

from __future__ import annotations

from forkserve.serving.asgi.context import AsgiTransport

__all__ = ["HIGH_WATER", "BodyQueue"]

HIGH_WATER = 65_536
"""Bytes waiting above which no more are read; one more read may be added."""


class BodyQueue:
    """What has arrived of a body and was not taken yet."""

    __slots__ = ("_blocks", "_conn", "_held", "_size", "expected", "whole")

    def __init__(self, conn: AsgiTransport, *, expected: bool) -> None:
        self._conn = conn
        self._blocks: list[bytes] = []
        self._size = 0
        self._held = False
        self.whole = False
        self.expected = expected
        """Whether the client waits for 100 Continue."""

    @property
    def ready(self) -> bool:
        """True if `take` has something to return."""
        return self.whole or bool(self._blocks)

    @property
    def in_memory(self) -> int:
        """Bytes that wait."""
        return self._size

    def spill(self) -> None:
        """Keep nothing in a file: the queue is bounded, and soon taken."""

    def add(self, data: bytes) -> None:
        """Add a received piece."""
        self._blocks.append(data)
        self._size += len(data)
        self.expected = False
        if self._size >= HIGH_WATER and not self._held:
            self._held = True
            self._conn.hold()

    def ask(self) -> None:
        """Ask the client for its body if it waits for that. Raises OSError."""
        if self.expected:
            self.expected = False
            self._conn.proceed()

    def take(self) -> bytes:
        """Return what waits."""
        blocks = self._blocks
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        self._blocks = []
        self._size = 0
        self.release()
        return data

    def release(self) -> None:
        """Resume reading from the connection."""
        if self._held:
            self._held = False
            self._conn.release()
