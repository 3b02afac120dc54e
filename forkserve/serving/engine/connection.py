"""One accepted connection: what was read ahead, what is still to be written, and its current deadline.

Rules: only the loop reads, closes and moves on to the next request; the code that runs an application only sends, and
ends its exchange. What the socket does not take is queued here and sent by the loop. A connection is in one phase, each
phase has one time limit, and `deadline` is an instant of the monotonic clock that the sweep compares: so a request
costs an assignment and no timer.

Threads: `out` changes from None to a queue only by the thread that runs the exchange, and back only by the loop, under
the owner's lock. `exchange` is set to None before `inbox` is read, while the loop fills `inbox` before it reads
`exchange`: so one of the two sees the other's work.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from forkserve.serving.engine.body_receiver import BodyReceiver
from forkserve.serving.engine.files import FilePart
from forkserve.serving.engine.limits import FOREVER
from forkserve.serving.engine.native import Socket
from forkserve.serving.engine.phases import READABLE, UNHEARD, WRITABLE, ConnectionLost, Phase
from forkserve.serving.engine.protocols import FINISHED, ConnectionOwner, Exchange, Leftover
from forkserve.serving.http.request import RequestReader
from forkserve.serving.native import hot

if TYPE_CHECKING:
    from forkserve.serving.engine.listening import Listening
    from forkserve.serving.engine.tls import TlsSocket

__all__ = ["Connection"]

SILENT_BEATS = 10
"""Times `--timeout` for which an application may go on without a byte for its client."""
SLOWEST = 10
"""Times `--write-timeout` for which one write() of an application may wait for a client that reads."""
HIGH_WATER = 262_144
"""Bytes queued for a client above which its application waits."""


_IDLE, _CLOSED = Phase.IDLE, Phase.CLOSED


class Connection:
    """A client's socket between accept and close."""

    __slots__ = (
        "body",
        "close_after",
        "deadline",
        "ends",
        "events",
        "exchange",
        "fd",
        "half_closed",
        "inbox",
        "interrupted",
        "listening",
        "out",
        "out_size",
        "owner",
        "parked",
        "patient",
        "phase",
        "raw",
        "reader",
        "receive",
        "recv",
        "refused",
        "remote",
        "send",
        "sock",
        "unheard",
        "write_by",
    )

    def __init__(self, owner: ConnectionOwner, listening: Listening, sock: Socket | TlsSocket, peer: Any) -> None:
        self.owner = owner
        self.listening = listening
        self.sock = sock
        self.raw = type(sock) is Socket
        """Whether the bytes of the socket are those of the client, so that C may read and write by `fd`."""
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send
        self.remote: tuple[str, str] = (peer[0], str(peer[1])) if type(peer) is tuple else ("", "")
        self.ends: tuple[Any, Any] | None = None
        """The addresses of both ends in the form of an interface, which sets this when it first needs them."""
        self.phase = Phase.FIRST_BYTE
        self.deadline = owner.now + owner.timeouts.header_timeout
        self.events = READABLE
        self.exchange: Exchange | None = None
        self.interrupted: Exchange | None = None
        """The exchange that was interrupted because it took too long; not interrupted twice."""
        self.reader: RequestReader | None = None
        self.body: BodyReceiver | None = None
        self.inbox = b""
        self.out: deque[Any] | None = None
        self.out_size = 0
        self.parked = False
        self.patient = False
        self.receive: Callable[[bytes], None] | None = None
        self.close_after = False
        self.refused = False
        self.half_closed = False
        self.write_by = FOREVER
        """The instant by which the client must have read what is queued, whenever it last read something."""
        self.unheard = UNHEARD
        """Bytes that may still be read and dropped."""

    def start_tls(self) -> bool:
        """Begin TLS, if it is configured; False, with the descriptor closed, if the peer has left."""
        if self.listening.tls is not None:
            try:
                self.sock = sock = self.listening.tls(cast(Socket, self.sock))
            except OSError:
                return False
            self.raw = False
            self.recv, self.send = sock.recv, sock.send
        return True

    @property
    def lost(self) -> bool:
        """True if the client is known to have left."""
        return self.phase is _CLOSED

    @property
    def in_memory(self) -> int:
        """Bytes in memory of a request that has begun to arrive."""
        head = 0 if self.reader is None else self.reader.in_memory
        return head if self.exchange is None else head + self.exchange.in_memory

    @property
    def is_unfinished(self) -> bool:
        """True while a request has begun to arrive and is not whole."""
        return self.phase is not _CLOSED and (self.reader is not None or self.body is not None)

    @property
    def awaits_client(self) -> bool:
        """True while a running exchange can go on only when bytes arrive, so that it is the client that is late."""
        return self.receive is not None or (self.body is not None and self.body.held_since is None)

    def reply(self, payload: bytes, keep: bool) -> None:
        """Send a whole response and end the exchange: the hot path of every backend. Raises ConnectionLost."""
        try:
            sent = self.send(payload)
        except OSError as error:
            sent = self.not_sent(error)
        if sent == len(payload) and keep and self.body is None:
            self.phase = _IDLE
            self.deadline = self.owner.idle_deadline
            self.exchange = None
            if self.inbox or self.half_closed:
                self._hand_back()
            return
        self.replied(payload, sent, keep)

    def replied(self, payload: bytes, sent: int, keep: bool) -> None:
        """Continue a response of which this many bytes were sent, and which may not keep its connection."""
        if sent != len(payload):
            self._queue(memoryview(payload)[sent:])
        self.done(keep)

    def write(self, data: bytes | memoryview) -> bool:
        """Send, or queue what the socket does not take; False when the writer should stop: see `park`.

        Raises ConnectionLost.
        """
        if self.phase is _CLOSED:
            raise ConnectionLost
        if self.out is None:
            try:
                sent = self.send(data)
            except OSError as error:
                sent = self.not_sent(error)
            if sent == len(data):
                if not self.patient and self.body is None:
                    # The limit is one on silence: what is sent moves it.
                    self.owner.moved = now = time.monotonic()
                    self.owner.counter.beat(now)
                    self.deadline = now + self.owner.timeouts.timeout
                return True
            data = memoryview(data)[sent:]
        self._queue(data)
        return self.out_size < HIGH_WATER

    def beat(self, since: float) -> float:
        """Record progress of the application although it sends nothing; returns since when that is so, 0 being now.

        That extends the limit on silence, but not for ever: a loop that yields nothing would occupy a thread, or the
        worker, for good. Raises ConnectionLost, so that it ends with its client.
        """
        if self.phase is _CLOSED:
            raise ConnectionLost
        now, timeout = time.monotonic(), self.owner.timeouts.timeout
        since = since or now
        if now < since + SILENT_BEATS * timeout and not self.patient and self.body is None and self.out is None:
            self.owner.moved = now
            self.owner.counter.beat(now)
            self.deadline = now + timeout
        return since

    def write_file(self, file: Any, offset: int, count: int, head: bytes = b"") -> None:
        """Send `head`, and queue a part of an open file after it; the file may be closed.

        It is sent by sendfile(2), as fast as the client reads. Raises ConnectionLost; or another OSError if descriptors
        have run out, and has sent nothing then.
        """
        if self.phase is _CLOSED:
            raise ConnectionLost
        part = FilePart(os.dup(file.fileno()), offset, count)
        try:
            if head:
                self.write(head)
            self._queue(part)
        except BaseException:
            part.close()
            raise

    def park(self) -> bool:
        """Ask to be resumed when the queue is empty; False if it already is."""
        with self.owner.lock:
            self.parked = self.out is not None and self.phase is not _CLOSED
            return self.parked

    def limit_write(self) -> None:
        """Limit the time that the client may take for what is queued: its writer waits, and occupies its place."""
        now, timeout = time.monotonic(), self.owner.timeouts.write_timeout
        with self.owner.lock:
            self.write_by = now + SLOWEST * timeout
            self.deadline = min(now + timeout, self.write_by)

    def lift_limit(self) -> None:
        """Lift the limit: the writer goes on."""
        self.write_by = FOREVER

    def done(self, keep: bool) -> None:
        """End the exchange: what is queued is sent first, then the next request runs or the connection closes."""
        self.close_after = not keep
        self.exchange = FINISHED
        self.patient = False
        self._hand_back()

    def _hand_back(self) -> None:
        """Let the loop continue it after the end of its exchange."""
        try:
            self.owner.later(self)
        except MemoryError:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Let the next sweep close it, since nothing else will handle it."""
        self.phase = _CLOSED
        self.deadline = self.owner.now

    def proceed(self) -> None:
        """Send `100 Continue` (RFC 9110 15.2.1). Raises ConnectionLost."""
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def hold(self) -> None:
        """Read no more of the request's body until `release`: its reader is behind."""
        if self.body is not None:
            self.body.hold(self.owner.now)
            self.deadline = self.owner.now + self.owner.timeouts.timeout
        self.watch(self.events & ~READABLE)

    def release(self) -> None:
        """Resume reading."""
        if self.body is not None:
            self.body.release(self.owner.now)
            self.deadline = self.body.deadline(self.owner.now)
        self.watch(self.events | READABLE)

    def leave(self, rest: Leftover) -> None:
        """Keep counting the rest of its bytes after it is closed."""
        self.owner.leftovers.add(rest)

    def be_patient(self) -> None:
        """Let the exchange take as long as its client listens: its response has begun."""
        self.patient = True
        if self.body is None and self.out is None:
            self.deadline = FOREVER

    def take_over(self, receive: Callable[[bytes], None]) -> bytes:
        """Pass all further bytes to `receive`, for another protocol; returns those that were read already."""
        self.receive = receive
        data, self.inbox = self.inbox, b""
        return data

    def not_sent(self, error: OSError) -> int:
        """Return 0 if the socket would block; else mark the loss and raise ConnectionLost."""
        if isinstance(error, BlockingIOError):
            return 0
        self.phase = _CLOSED
        raise ConnectionLost(error.errno, "the client has gone") from error

    def _queue(self, data: Any) -> None:
        with self.owner.lock:
            if self.out is None:
                self.out = deque()
                self.out_size = 0
                self.watch(self.events | WRITABLE)
                self.deadline = self.owner.now + self.owner.timeouts.write_timeout
            self.out.append(data)
            self.out_size += len(data)

    def flush(self) -> bool:
        """Send what is queued; True when nothing is left. Runs in the loop. Raises ConnectionLost."""
        with self.owner.lock:
            while self.out:
                data = self.out[0]
                size = len(data)
                try:
                    sent = self._send_file(data) if type(data) is FilePart else self.send(data)
                except OSError as error:
                    self.not_sent(error)
                    return False
                self.deadline = min(self.owner.now + self.owner.timeouts.write_timeout, self.write_by)
                self.out_size -= sent
                if sent < size:
                    if type(data) is not FilePart:
                        self.out[0] = data[sent:]
                    return False
                self.out.popleft()
                if type(data) is FilePart:
                    data.close()
            self.out = None
            self.watch(self.events & ~WRITABLE)
            return True

    def _send_file(self, part: FilePart) -> int:
        return part.send(self.fd, None if self.listening.tls is None else self.send)

    def drop(self, data: bytes) -> bool:
        """Drop unwanted bytes; False if there have been too many of them."""
        self.unheard -= len(data)
        return self.unheard >= 0

    def reset(self) -> None:
        """Make the socket's close a reset (SO_LINGER, socket(7)): bytes in transit are not accepted."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def stalled(self) -> bool:
        """True if TLS must write before it can read, as in a handshake (SSL_ERROR_WANT_WRITE)."""
        return self.out is None and not isinstance(self.sock, Socket) and self.sock.wants_write

    def watch(self, events: int) -> None:
        """Change the events that epoll reports."""
        if events != self.events and self.phase is not _CLOSED:
            self.events = events
            self.owner.epoll.modify(self.fd, events)

    def forget_events(self) -> None:
        """Leave epoll, which always reports a lost connection (epoll_ctl(2): EPOLLHUP)."""
        if self.events >= 0:
            self.events = -1
            self.owner.epoll.unregister(self.fd)


if hot is not None:
    hot.adopt(Connection, Phase)
