"""The messages of a WebSocket on their way to its application; while there are many the connection is not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from forkserve.serving.asgi.context import AsgiTransport, Message
from forkserve.serving.asgi.notifier import Notifier
from forkserve.serving.asgi.websocket_protocol import WebSocketProtocol, size_of

__all__ = ["QUEUED", "QUEUED_BYTES", "MessageQueue"]

QUEUED = 32
"""Messages that may wait for the application; above that the client is not read."""
QUEUED_BYTES = 1 << 20
"""The same in bytes."""


class MessageQueue:
    """Waiting messages; `size` is their sum in bytes. `news` is notified when some have arrived."""

    __slots__ = ("__weakref__", "_conn", "_waiting", "held", "news", "size")

    def __init__(self, conn: AsgiTransport, news: Notifier, first: Message) -> None:
        self._conn = conn
        self._waiting = deque([first])
        self.news = news
        self.size = 0
        self.held = False
        """True while the connection is not read."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def room(self) -> tuple[int, int]:
        """Messages and bytes that may still be added; 0 or less if there is no room."""
        return QUEUED - len(self._waiting), QUEUED_BYTES - self.size

    @property
    def is_full(self) -> bool:
        """True when there is no room."""
        return len(self._waiting) >= QUEUED or self.size >= QUEUED_BYTES

    @property
    def has_end(self) -> bool:
        """True when the last message is `websocket.disconnect`."""
        return bool(self._waiting) and self._waiting[-1]["type"] == "websocket.disconnect"

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages, and wake whatever waits for them."""
        for message in messages:
            self._waiting.append(message)
            self.size += size_of(message)
        self.news.notify()

    def take(self) -> Message:
        """Return the next message; the last one, of the end, stays."""
        message = self._waiting[0]
        if message["type"] != "websocket.disconnect":
            self._waiting.popleft()
            self.size -= size_of(message)
        return message

    @property
    def in_memory(self) -> int:
        """Bytes that wait."""
        return self.size

    def outlive(self) -> None:
        """Called when the connection is closed: what waits is still counted."""
        if self.size:
            self._conn.leave(self)

    def drop(self) -> None:
        """Drop what the client has sent; messages about connect and disconnect stay."""
        self._waiting = deque(each for each in self._waiting if each["type"] != "websocket.receive")
        self.size = 0

    def lags(self, socket: WebSocketProtocol | None) -> bool:
        """Tell whether reading from the client should pause; once closing has begun, only its close is waited for."""
        if socket is not None and (socket.unfinished or not socket.is_open):
            return socket.unfinished
        return self.is_full or (socket is not None and socket.behind)

    def hold(self) -> None:
        """Stop reading from the connection."""
        if not self.held:
            self.held = True
            self._conn.hold()

    def release(self) -> None:
        """Resume reading from the connection."""
        if self.held:
            self.held = False
            self._conn.release()
