"""One WebSocket connection without I/O: bytes in, ASGI messages out; ASGI messages in, bytes out.

The `websockets` library does the framing, masking and compression (RFC 6455, RFC 7692); this adds the shape of ASGI:
when a message is whole, which close code the application gets, and what an application may not send. A fragmented
message is gathered in one buffer, so that a million tiny fragments cost no more than their bytes.

Received bytes are decoded as far as there is room for messages. The rest waits undecoded and compressed (`deflate.py`):
nothing that a client sends takes much more memory than its size, until the application wants it. Nor does it take much
time at once: of the frames of one read only so many are decoded in a call, and the rest when the caller goes on.

Most frames are a whole, uncompressed message that arrived in one read. Those are handled here (`frames.py`), at a
quarter of the cost; everything else, and every doubtful case, is left to the library, which gets whole frames, or the
beginning of one.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any, Final

from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from forkserve.serving.asgi.deflate import Deferred, Inflater
from forkserve.serving.asgi.frames import BINARY, TEXT, end_of, frame_head, simple_payload
from forkserve.serving.asgi.websocket_handshake import Handshake, WebSocketLimits

__all__ = [
    "AT_ONCE",
    "Message",
    "WebSocketProtocol",
    "disconnect_of",
    "size_of",
]

Message = dict[str, Any]
"""An ASGI message: a dictionary with a `type`."""

# The bit that tells the opcodes of control frames, which make no messages (RFC 6455 section 5.5).
CONTROL: Final = 0x08
# Codes that stand for something that never travels (RFC 6455 section 7.4.1).
NEVER_SENT: Final = frozenset({1005, 1006, 1015})
# Frames that are decoded in one call: each may cost the library a tenth of a millisecond, and a read have 10,000.
AT_ONCE: Final = 64
# A masked continuation of nothing that ends a message.
_LAST_FRAGMENT: Final = b"\x80\x80\0\0\0\0"


class WebSocketProtocol:
    """The frames of an accepted connection. After each call, `take()` holds what must go out."""

    def __init__(self, handshake: Handshake, limits: WebSocketLimits) -> None:
        self._protocol = ServerProtocol(state=OPEN, max_size=limits.max_size)
        self._deferred: Deferred | None = None
        for negotiated in handshake.extensions:
            self._inflater = Inflater(negotiated)
            self._deferred = Deferred(negotiated)
            self._protocol.extensions = [self._deferred]
        self._max_size = limits.max_size
        self._ready: list[bytes] = []
        self._rest = b""
        self._room = 0
        self._inflating = False
        self._wanted = False
        self.behind = False
        """True while received bytes wait for `resume`, since there was no room for them."""
        self.unfinished = False
        """True while received bytes wait for `go_on`, since there were many frames before them."""
        self._left = 0
        self._buffer: bytearray | None = None
        self._is_text = False
        self._awaiting_pong = False
        self.disconnected = False

    @property
    def is_open(self) -> bool:
        """True until either side has begun to close."""
        return self._protocol.state is OPEN

    @property
    def finished(self) -> bool:
        """True when the closing handshake is over, or failed, and the TCP connection should end."""
        return self._protocol.close_expected() or self._protocol.eof_sent

    def take(self) -> bytes:
        """Return the bytes to send, once; b"" if there are none."""
        ready, writes = self._ready, self._protocol.writes
        if not writes and len(ready) == 1:
            return ready.pop()
        self._ready = []
        return b"".join([*ready, *self._protocol.data_to_send()])

    @property
    def in_memory(self) -> int:
        """Bytes that have arrived and are not messages yet."""
        inflated = 0 if self._deferred is None else self._inflater.in_memory
        return len(self._rest) + len(self._buffer or b"") + len(self._protocol.reader.buffer) + inflated

    @property
    def has_output(self) -> bool:
        """True if `take` has something to return."""
        return bool(self._ready or self._protocol.writes)

    def receive(self, data: bytes, count: int = sys.maxsize, size: int = sys.maxsize) -> list[Message]:
        """Take received bytes; return the ASGI messages that they complete, a violation as `websocket.disconnect`.

        There is room for `count` messages of `size` bytes together; the last one may be longer if it is not compressed,
        since its bytes are in memory already. What exceeds that waits for `resume`, or after many frames for `go_on`.
        """
        messages: list[Message] = []
        if not data:
            self._protocol.receive_eof()
            self._events(messages)
            return messages
        if self._rest:
            data, self._rest = self._rest + data, b""
        if self.behind and self.is_open:
            self._rest = data
        else:
            self._room = size
            self._decode(data, messages, count)
        return messages

    def go_on(self, count: int, size: int) -> list[Message]:
        """Continue with unfinished bytes; as `receive`."""
        messages: list[Message] = []
        self._room = size
        data, self._rest = self._rest, b""
        self._decode(data, messages, count)
        return messages

    def resume(self, count: int, size: int) -> list[Message]:
        """Continue with waiting bytes, when the application has nothing else to take: the first message may have
        any size.
        """
        messages: list[Message] = []
        self._room = size
        self._wanted = True
        if self._inflating:
            self._inflate(messages, self._max_size)
        data, self._rest = self._rest, b""
        self._decode(data, messages, count)
        self._wanted = False
        return messages

    def _decode(self, data: bytes, messages: list[Message], count: int) -> None:
        at, size = 0, len(data)
        for _ in range(AT_ONCE):
            if at == size:
                break
            full = len(messages) >= count or self._room <= 0 or self._inflating
            # A ping is answered ahead of what waits; a close is not, since the message before it counts.
            ahead = data[at] & CONTROL and not (self._inflating and data[at] & 0x0F == Opcode.CLOSE)
            if full and not ahead and self.is_open:
                self._rest = data[at:]
                self.behind, self.unfinished = True, False
                return
            at = self._next(data, at, messages)
        self.behind, self.unfinished = self._inflating, at < size
        if at < size:
            self._rest = data[at:]

    def _next(self, data: bytes, at: int, messages: list[Message]) -> int:
        """Take what `data` has of the frame at `at`, or of the current one; return where that ends."""
        if self._protocol.eof_sent:
            end = len(data)  # the library discards all
        elif self._left:
            end = at + self._left
        else:
            end = end_of(data, at)
            if end <= 0:
                if end < 0:
                    self._fail(CloseCode.PROTOCOL_ERROR, "a length in more bytes than it needs", messages)
                else:
                    self._rest = data[at:]
                return len(data)
            if end <= len(data) and self._buffer is None and end - at <= self._max_size:
                payload = simple_payload(data, at, end)
                if payload is not None:
                    if self.is_open:
                        self._is_text = data[at] == TEXT
                        self._whole(payload, messages)
                    return end
            if self._buffer is not None and data[at] & 0x0F == Opcode.CLOSE:
                self._abandon()
        here = min(end, len(data))
        self._left = end - here
        self._protocol.receive_data(data[at:here])
        self._events(messages)
        return here

    def _abandon(self) -> None:
        """Drop the current message, which will never be whole.

        A close may come between fragments (RFC 6455 section 5.4) and must be answered like any other; the library would
        call it a violation.
        """
        self._buffer = None
        self._protocol.receive_data(_LAST_FRAGMENT)
        self._protocol.events_received()

    def _events(self, messages: list[Message]) -> None:
        """Take the events that the library has made of its bytes."""
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event, messages)
        if not self.disconnected and not self.is_open:
            messages.append(self._disconnect())

    def _frame(self, frame: Frame, messages: list[Message]) -> None:
        opcode = frame.opcode
        if opcode is Opcode.PONG:
            self._awaiting_pong = False
        if opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT) or not self.is_open:
            return
        if opcode is not Opcode.CONT:
            self._is_text = opcode is Opcode.TEXT
            if frame.fin:
                self._assembled(frame.data, messages)
                return
            self._buffer = bytearray(frame.data)
            return
        assert self._buffer is not None  # the library refuses a continuation of nothing
        self._buffer += frame.data
        if frame.fin:
            whole, self._buffer = bytes(self._buffer), None
            self._assembled(whole, messages)

    def _assembled(self, data: Any, messages: list[Message]) -> None:
        """Take the whole payload of a message."""
        if self._deferred is None or not self._deferred.compressed:
            self._whole(data, messages)
            return
        self._inflater.begin(bytes(data))
        self._inflating = True
        self._inflate(messages, self._max_size if self._wanted else min(self._room, self._max_size))

    def _inflate(self, messages: list[Message], limit: int) -> None:
        """Inflate the current message, unless it has more bytes than that: then it waits, or is too long."""
        try:
            data = self._inflater.inflate(limit)
        except zlib.error as error:
            self._fail(CloseCode.PROTOCOL_ERROR, f"inflating failed: {error}", messages)
            return
        if data is not None:
            self._inflating = False
            self._whole(data, messages)
        elif limit >= self._max_size:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"over {self._max_size} bytes", messages)

    def _whole(self, data: Any, messages: list[Message]) -> None:
        self._room -= len(data)
        self._wanted = False
        if not self._is_text:
            messages.append({"type": "websocket.receive", "bytes": bytes(data)})
            return
        try:
            messages.append({"type": "websocket.receive", "text": str(data, "utf-8")})
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text that is not UTF-8", messages)

    def _fail(self, code: CloseCode, reason: str, messages: list[Message]) -> None:
        """End the connection for a violation by its client (RFC 6455 section 7.1.7), and release what waits."""
        self._protocol.fail(code, _clipped(reason))
        self._inflating = False
        self._buffer = None
        messages.extend(self.lost())

    def _disconnect(self) -> Message:
        self.disconnected = True
        close = self._protocol.close_rcvd or self._protocol.close_sent
        if close is None:
            return disconnect_of(CloseCode.ABNORMAL_CLOSURE)
        return disconnect_of(close.code, close.reason)

    def lost(self) -> list[Message]:
        """The TCP connection is lost: the application gets 1006, unless it was told of an end already."""
        return [] if self.disconnected else [self._disconnect()]

    def shed(self) -> list[Message]:
        """Close, since the server holds too much (1013: try again later), and drop what has arrived."""
        messages: list[Message] = []
        self._fail(CloseCode.TRY_AGAIN_LATER, "too much is held for unfinished messages", messages)
        self.forget()
        return messages

    def forget(self) -> None:
        """Drop what has arrived and is not a message yet; called when the connection is closed."""
        self._rest, self._buffer, self._left = b"", None, 0
        self._inflating = self.behind = self.unfinished = False
        self._protocol.reader.discard()
        if self._deferred is not None:
            self._inflater.forget()

    def send(self, message: Message) -> None:
        """Take a `websocket.send`; raises TypeError if it has neither or the wrong kind of data."""
        data, text = message.get("bytes"), message.get("text")
        if text is not None:
            if not isinstance(text, str):
                raise TypeError(f"websocket.send: text must be str, not {type(text).__name__}")
            self._send(TEXT, text.encode())
        elif isinstance(data, bytes | bytearray | memoryview):
            self._send(BINARY, bytes(data))
        else:
            raise TypeError("websocket.send: one of text (str) and bytes (bytes) must be given")

    def _send(self, kind: int, data: bytes) -> None:
        if self._deferred is None and self.is_open:
            self._ready.append(frame_head(kind, len(data)) + data)
        elif kind == TEXT:
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, unless it has begun; a code that must not be sent becomes 1000."""
        if not self.is_open:
            return
        try:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE if code in NEVER_SENT else code, _clipped(reason))
        except ProtocolError as error:
            raise ValueError(f"websocket.close: {error}") from None

    def leave(self, code: int, reason: str) -> list[Message]:
        """Close from our side, and tell the application at once rather than when the client answers."""
        self.close(code, reason)
        return self.lost()

    def ping(self) -> bool:
        """Send a ping; False if the one before was never answered, and the client should be dropped."""
        if self._awaiting_pong:
            return False
        if self.is_open:
            self._protocol.send_ping(b"")
            self._awaiting_pong = True
        return True


def disconnect_of(code: int, reason: str = "") -> Message:
    """Return the message that tells an application of the end."""
    return {"type": "websocket.disconnect", "code": int(code), "reason": reason}


def size_of(message: Message) -> int:
    """Return the memory that a message takes in bytes; a text up to four for each character."""
    text = message.get("text")
    return len(message.get("bytes") or b"") if text is None else sys.getsizeof(text)


def _clipped(reason: str) -> str:
    # A control frame carries 125 bytes, two of them the code (RFC 6455 section 5.5).
    return reason.encode()[:123].decode("utf-8", "ignore")
