"""One WebSocket of an ASGI application: the handshake, then messages both ways until either side closes.

Rules: nothing is accepted before the application says so. A client is read no faster than the application takes its
messages, and an application that sends faster than its client reads waits. The application sees the end once. A
client that answers no ping is dropped. When the application ends, its socket is closed: 1000, or 1011 if it raised.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import ClassVar

from forkserve.serving.asgi.context import AsgiServingContext, AsgiTransport, Disconnected, Message, Task
from forkserve.serving.asgi.denial import Answer
from forkserve.serving.asgi.heartbeat import Heartbeat, Keepalive
from forkserve.serving.asgi.message_queue import QUEUED, QUEUED_BYTES, MessageQueue
from forkserve.serving.asgi.notifier import Notifier
from forkserve.serving.asgi.outgoing import field_lines, without_handshake
from forkserve.serving.asgi.pace import Pace
from forkserve.serving.asgi.scope import websocket_scope
from forkserve.serving.asgi.websocket_handshake import Handshake, WebSocketLimits
from forkserve.serving.asgi.websocket_protocol import WebSocketProtocol, disconnect_of
from forkserve.serving.ends import End
from forkserve.serving.exchange import GONE, Bodiless
from forkserve.serving.failure import due_to_loss, log_failure
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["WebSocketSession"]

log = logging.getLogger("forkserve.asgi")

CLOSING = 5.0
"""Seconds that a client has to answer a close."""


class SessionStage(Enum):
    """The stages of the connection."""

    CONNECTING = auto()
    DENYING = auto()
    OPEN = auto()
    CLOSED = auto()


CONNECTING, DENYING, OPEN, CLOSED = SessionStage


class WebSocketSession(Bodiless):
    """A handshake, and the WebSocket that may result from it."""

    starts_at_head: ClassVar[bool] = True
    defers_body: ClassVar[bool] = True
    streams_events: ClassVar[bool] = False
    serving: ClassVar[AsgiServingContext]
    limits: ClassVar[WebSocketLimits]
    keepalive: ClassVar[Keepalive]
    answering: ClassVar[type[Answer]]
    """Set by the backend on its subclass."""

    def __init__(self, conn: AsgiTransport, line: RequestLine, fields: Fields) -> None:
        """Raises BadHandshake."""
        self.conn = conn
        self.line = line
        self.fields = fields
        self.handshake = Handshake.check(fields.headers, line.target.decode("latin-1"), self.limits)
        self.stage = CONNECTING
        self.socket: WebSocketProtocol | None = None
        self.answer = self.answering(conn, line, fields)
        self.messages = MessageQueue(conn, Notifier(self.serving.loop), {"type": "websocket.connect"})
        self.room = Notifier(self.serving.loop)
        self.task: Task | None = None
        self.heart: Heartbeat | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.pace = Pace(self.serving.loop)
        self.aware = False

    # From the loop.

    @property
    def in_memory(self) -> int:
        """Bytes of messages that wait for the application, or are not whole."""
        return self.messages.size + (0 if self.socket is None else self.socket.in_memory)

    def wake(self) -> None:
        """Called when the client will send no more: before the handshake it is lost."""
        if self.stage is CONNECTING and self.conn.half_closed:
            self.lost()

    def suspended(self) -> None:
        """Called when the application waits: a denial may have been begun."""
        if self.stage is DENYING:
            self.answer.suspended()

    def resume(self) -> None:
        """Called when the client has read what was queued, or has left."""
        self.room.notify()
        self._read_on()

    def lost(self) -> None:
        """Called when the client has left."""
        if self.stage is CLOSED:
            return
        if self.stage is CONNECTING:
            self._note(GONE)
        self.messages.add(self.socket.lost() if self.socket is not None else [disconnect_of(1006)])
        self._end()

    def end(self, how: End) -> bool:
        """End it as the table in `serving.ends` says; an open WebSocket is closed."""
        if how is End.LOST:
            self.lost()
        elif how is not End.BROKEN_BODY:
            if self.stage is CONNECTING:
                self._refuse(how.status)
            self._end()
        return how is not End.BROKEN_BODY

    def cancel(self, _: End) -> None:
        """Cancel the application."""
        self.aware = True
        if self.task is not None:
            self.task.cancel()

    def shed(self) -> None:
        """Close, since all clients together hold too much, and drop what has arrived."""
        if self.stage is OPEN and self.socket is not None:
            self.messages.drop()
            self._took(self.socket.shed())

    def leave(self) -> None:
        """Close, since serving ends (1012: the service restarts)."""
        if self.stage is OPEN and self.socket is not None and self.socket.is_open:
            self.aware = True  # what it does with the last message it may end
            self.conn.unheard += self.limits.max_size
            self.messages.add(self.socket.leave(1012, "service restart"))
            self._flush()
            self._await_close()

    def take(self, data: bytes) -> None:
        """Take received bytes; b"" is their end."""
        socket = self.socket
        assert socket is not None
        if not socket.is_open and not self.conn.drop(data):
            # Its answer to our close is lost in what it sends: it is no longer waited for.
            self._end()
            return
        assert self.heart is not None
        self.heart.heard = True
        self._took(socket.receive(data, *self.messages.room), ended=not data)

    def _took(self, messages: list[Message], *, ended: bool = False) -> None:
        """Handle the messages that the protocol has decoded."""
        socket = self.socket
        assert socket is not None
        if socket.has_output:
            self._flush()
        if socket.unfinished:
            self.serving.loop.call_soon(self._go_on)
        if messages or socket.behind or socket.unfinished:
            self.messages.add(messages)
            if not ended and self.messages.lags(socket):
                self._hold()
        if ended or socket.finished:
            self._end()

    def _go_on(self) -> None:
        """Continue with received bytes, after a turn for others."""
        if self.stage is OPEN and self.socket is not None and self.socket.unfinished:
            self._took(self.socket.go_on(*self.messages.room))
            self._read_on()

    def _hold(self) -> None:
        """Stop reading until there is room."""
        if not self.messages.held:
            self.messages.hold()
            if self.heart is not None:
                self.heart.heard = True

    def _read_on(self) -> None:
        """Resume reading if there is room."""
        if not self.messages.lags(self.socket):
            self.messages.release()

    # The application's side.

    async def run(self) -> None:
        """Call the application and make sure that its socket ends."""
        scope = websocket_scope(self.conn, self.line, self.fields, self.serving.state, self.handshake.subprotocols)
        if self.serving.scoped:
            self.answer.note_scope(scope)
        try:
            await self.serving.app(scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 - the fault barrier of one socket
            self.fail(error)
            return
        if self.stage is DENYING:
            self.answer.returned()
        elif self.stage is CONNECTING:
            log.error("%s %r: the application returned without accepting or closing", *self.name())
            self._refuse(End.UNANSWERED.status)
        elif self.stage is OPEN:
            self._close(1000, "")

    async def receive(self) -> Message:
        """Return the next message, or wait for it; at the end repeatedly `websocket.disconnect`."""
        messages = self.messages
        while not messages:
            if self.socket is not None and self.socket.behind:
                # Others have a turn: what waits may be ten thousand messages.
                await asyncio.sleep(0)
                if self.socket.behind and not messages:
                    self._took(self.socket.resume(QUEUED, QUEUED_BYTES))
                    self._read_on()
            else:
                await messages.news.wait()
        message = messages.take()
        if message["type"] != "websocket.disconnect":
            self._read_on()
            return message
        self.aware = True
        await self.pace.step()
        return message

    async def send(self, message: Message) -> None:
        """Act on a message; raises OSError if the socket is closed, RuntimeError for an unexpected message."""
        kind, stage, socket = message["type"], self.stage, self.socket
        if kind == "websocket.send" and stage is OPEN and socket is not None and socket.is_open:
            socket.send(message)
            if not self._write(socket.take()):
                await self._drained()
        elif kind == "websocket.accept" and stage is CONNECTING:
            self._accept(message)
        elif kind == "websocket.close" and stage is CONNECTING:
            self._refuse(403)
            self.messages.add([disconnect_of(1006)])
        elif kind == "websocket.close" and stage is OPEN:
            self._close(message.get("code", 1000), message.get("reason") or "")
        elif kind.startswith("websocket.http.response.") and stage in (CONNECTING, DENYING):
            await self._deny(kind.removeprefix("websocket."), message)
        elif self._is_closed():
            self.aware = True
            await self.pace.step()
            raise Disconnected(f"{kind!r} was sent when the socket was closed")
        else:
            raise RuntimeError(f"{kind!r} was sent while the socket is {stage.name.lower()}")

    def _accept(self, message: Message) -> None:
        """Answer 101 and take the connection over. Raises OSError, BadResponse, ValueError."""
        responder, handshake = self.serving.responder, self.handshake
        ours = b"".join(b"%b: %b\r\n" % pair for pair in handshake.answer(message.get("subprotocol")))
        theirs = field_lines(responder, without_handshake(self.answer.fields_of(message.get("headers", ()))))
        self._write(b"HTTP/1.1 101 Switching Protocols\r\n" + ours + theirs + responder.end)
        self._note(101)
        self.stage = OPEN
        self.socket = WebSocketProtocol(handshake, self.limits)
        self.serving.sockets.add(self)
        self.conn.be_patient()
        early = self.conn.take_over(self.take)
        self.heart = Heartbeat(self.serving.loop, self.keepalive, ping=self._ping, give_up=self._give_up)
        if early:
            self.take(early)
        if not self.serving.keep:
            self.serving.loop.call_soon(self.leave)

    async def _deny(self, kind: str, message: Message) -> None:
        """Answer the handshake with a response of the application (extension `websocket.http.response`)."""
        self.stage = DENYING
        self.conn.exchange = self.answer
        self.answer.task = self.task
        await self.answer.send(message | {"type": kind})

    def _close(self, code: int, reason: str) -> None:
        socket = self.socket
        assert socket is not None
        if socket.is_open:
            # The client may be within a message; one that is closed for a violation has no such time.
            self.conn.unheard += self.limits.max_size
            socket.close(code, reason)
            self._flush()
            self._await_close()

    def _await_close(self) -> None:
        """Wait for the client's close, but not for ever."""
        if self.stage is OPEN and self.socket is not None:
            self._cancel_timers()
            self.timer = self.serving.loop.call_later(CLOSING, self._end)
            self._read_on()
            if self.socket.behind:
                # The close may have come; no one receives the messages before it.
                self._took(self.socket.resume(QUEUED, QUEUED_BYTES))

    # Pings.

    def _ping(self) -> bool:
        """Ping; False if no answer is expected."""
        # A client that is not read cannot be heard answering, and one that does not read has its own time limit.
        if self.messages.held or self.stage is not OPEN or self.socket is None:
            return False
        self.socket.ping()
        self._flush()
        return True

    def _give_up(self) -> None:
        """Close, since the client has left silently."""
        if self.stage is OPEN and self.socket is not None:
            log.info("%s %r: the client answered no ping for %g s", *self.name(), self.keepalive.timeout)
            self.messages.add(self.socket.leave(1011, "no answer to a ping"))
            self._flush()
            self._end()

    def _cancel_timers(self) -> None:
        if self.heart is not None:
            self.heart.stop()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    # Ends.

    def _write(self, data: bytes) -> bool:
        """Send, or queue; False if the client is behind. Raises OSError."""
        try:
            return self.conn.write(data)
        except OSError:
            self.lost()
            raise

    def _flush(self) -> None:
        """Send the output of the protocol; a client that has left need not get it."""
        assert self.socket is not None
        data = self.socket.take()
        if data and self.stage is OPEN:
            try:
                # A client that sends pings and reads no answers is not read either.
                if not self.conn.write(data) and self.conn.park():
                    self._hold()
            except OSError:
                self.lost()

    async def _drained(self) -> None:
        if self.conn.park():
            await self.room.wait()
        if self.stage is CLOSED:
            self.aware = True
            raise Disconnected("the client has gone")

    def _is_closed(self) -> bool:
        """Tell whether either side has closed, or the handshake was refused."""
        return self.messages.has_end or (self.socket is not None and not self.socket.is_open)

    @property
    def deserted(self) -> bool:
        """True for a socket whose client has left, and whose application cannot know that."""
        return self.stage is CLOSED and self.socket is not None and not self.aware

    def _refuse(self, code: int) -> None:
        self.stage = CLOSED
        payload, _ = self.answer.error(self.serving.responder, code)
        try:
            self.conn.reply(payload, False)
        except OSError:
            self.conn.done(False)
        self._note(code)

    def _note(self, code: int) -> None:
        """Write the handshake's line to the access log, if there is one."""
        if self.serving.noted:
            self.answer.note(code, 0)

    def _end(self) -> None:
        """Release the connection."""
        if self.stage is not CLOSED:
            self.stage = CLOSED
            self._cancel_timers()
            self.serving.sockets.discard(self)
            self.conn.receive = None
            self.messages.outlive()
            if self.socket is not None:
                self.socket.forget()
            self.conn.done(False)
            self.room.notify()

    def fail(self, error: BaseException) -> None:
        """Log what the application raised, and end its socket."""
        if not isinstance(error, asyncio.CancelledError) and not (self._is_closed() and due_to_loss(error)):
            log_failure(error, *self.name())
        if self.stage is DENYING:
            self.answer.end(End.FAILED)
        elif self.stage is CONNECTING:
            self._refuse(End.FAILED.status)
        elif self.stage is OPEN:
            self._close(1011, "")

    def name(self) -> tuple[str, str]:
        """Return method and path, by which the log names a request."""
        return "WebSocket", self.line.path
