"""One client of an HTTP interface of the master, served in the master's own loop.

No call here blocks, and no client can cost the master more than a bounded amount: the size of a request, the time to
send it, the bytes that wait for the client. A reply that waits for work holds nothing but its connection.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from forkserve.control.answering import error_reply, outcome_reply
from forkserve.control.http import ControlExchange, DelegatedReply, Reply, Request, RequestRefused, StreamReply
from forkserve.supervision.completion import Completion
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.unix.descriptors import descriptor

__all__ = ["ServedClient", "ControlLoop", "ControlTimer", "Handler", "Respond"]

log = logging.getLogger("forkserve.control")

REQUEST_TIMEOUT = 10.0
RECEIVE_SIZE = 16 * 1024
SEND_LIMIT = 8 * 1024 * 1024
STREAM_LIMIT = 1024 * 1024
"""Bytes that wait for a client that follows the events; a slower reader is dropped."""


class ControlTimer(Protocol):
    """A scheduled call that can be cancelled."""

    def cancel(self) -> None:
        """Cancel it; a second call does nothing."""


class ControlLoop(Protocol):
    """What this server needs of the master's loop."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the ready events whenever `fd` is ready for `events`; a second call changes the events."""

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> ControlTimer:
        """Call back once, `delay` seconds from now."""


Respond = Callable[[Reply | StreamReply | DelegatedReply | Completion], None]
"""Takes the reply, or the promise of one; may be called later, and is harmless after the client has left."""

Handler = Callable[[Request, Respond], None]
"""Answers one request by calling `respond` once, now or when the work is done."""


class ServedClient:
    """One client: reads a request, waits for its reply, writes it, and repeats until either side ends the connection.

    `forget` is called when it has ended.
    """

    def __init__(
        self, client: socket.socket, loop: ControlLoop, handler: Handler, forget: Callable[[ServedClient], None]
    ) -> None:
        client.setblocking(False)
        self._socket = client
        self._loop = loop
        self._handler = handler
        self._forget = forget
        self._exchange = ControlExchange()
        self._outgoing = bytearray()
        self._busy = False
        self._closing = False
        self._closed = False
        self._streaming = False
        self._awaited: Completion | None = None
        self._unfollow: Callable[[], None] = _nothing
        self._timer: ControlTimer | None = None
        self._turn: ControlTimer | None = None
        """When the next request is begun, of several that have arrived at once."""
        self._expect()
        loop.watch(client.fileno(), selectors.EVENT_READ, self._ready)

    def to_data(self, completions: CompletionWriter) -> dict[str, Any]:
        """Return the client as plain data: what it has sent, what it waits for, and unsent bytes."""
        return {
            "fd": descriptor(self._socket.fileno()),
            "received": self._exchange.to_data(),
            "outgoing": base64.b64encode(self._outgoing).decode(),
            "busy": self._busy,
            "closing": self._closing,
            "streaming": self._streaming,
            "awaits": None if self._awaited is None else completions.number(self._awaited),
        }

    def restore(self, data: Mapping[str, Any], completions: CompletionReader) -> None:
        """Go on from the state of another one: wait for the same promise, resume a stream, answer a pending request."""
        self._outgoing += base64.b64decode(data["outgoing"])
        self._closing = data["closing"]
        if received := base64.b64decode(data["received"]):
            self._exchange.receive(received)
            self._take_turns()
        if data["busy"] and not self._closing:
            self._go_on(data, completions)
        with contextlib.suppress(BlockingIOError):
            self._flush()

    def _go_on(self, data: Mapping[str, Any], completions: CompletionReader) -> None:
        request = self._exchange.next_request()
        if request is None:
            raise ValueError("a client waits for an answer without a request")
        self._busy = True
        self._at_ease()
        if data["awaits"] is not None:
            self._respond(completions[data["awaits"]])
            return
        self._streaming = data["streaming"]
        if self._streaming:
            self._exchange.begin_stream()
        self._handler(request, self._respond)

    def close(self) -> None:
        """Close the connection; unsent bytes are lost."""
        if self._closed:
            return
        self._closed = True
        self._unfollow()
        self._at_ease()
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._forget(self)

    @property
    def is_idle(self) -> bool:
        """True while there is no request and no unsent reply."""
        return not (self._busy or self._outgoing or self._streaming or self._turn)

    def refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer everything with an error, and end the connection."""
        self._closing = True
        self._send(self._exchange.send(error_reply(status, text), close=True))

    def _expect(self) -> None:
        self._at_ease()
        self._timer = self._loop.call_later(REQUEST_TIMEOUT, self.close)

    def _at_ease(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ and not self._closed:
                self._receive()
        except OSError:  # reset by the client
            self.close()

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE_SIZE)
        if self._streaming:
            if not data:
                self.close()
            return
        if not data and (self._busy or self._outgoing):
            # Half-closed, or gone; the reply will find out. Read on, and end-of-file would wake the loop without end.
            if self._outgoing:
                self._loop.watch(self._socket.fileno(), selectors.EVENT_WRITE, self._ready)
            else:
                self._loop.unwatch(self._socket.fileno())
            return
        if not data:
            self.close()
            return
        self._exchange.receive(data)
        self._advance()
        if self._busy and not self._closed:
            self._watch()

    def _take_turns(self) -> None:
        """Leave the next request to a later turn of the loop, so that one client with many keeps no other waiting."""
        self._turn = self._loop.call_later(0.0, self._advance)

    def _advance(self) -> None:
        """Begin the next request, if it has arrived."""
        self._turn = None
        if self._busy or self._closing or self._closed:
            return
        try:
            request = self._exchange.next_request()
        except RequestRefused as error:
            self.refuse(error.status, str(error))
            return
        if request is not None:
            self._busy = True
            self._at_ease()
            self._handler(request, self._respond)
        elif self._exchange.wants_continue:
            self._send(self._exchange.informational())
        else:
            self._watch()

    def _respond(self, reply: Reply | StreamReply | DelegatedReply | Completion) -> None:
        if self._closed:
            return
        if isinstance(reply, DelegatedReply):
            self._delegate(reply)
            return
        if isinstance(reply, StreamReply):
            self._stream(reply)
            return
        if isinstance(reply, Completion):
            self._awaited = reply
            reply.when_done(self._answer)
            return
        self._awaited = None
        self._busy = False
        answer = self._exchange.send(reply)
        if self._exchange.has_more:
            self._take_turns()
        self._send(answer)
        self._closing = self._exchange.finished
        if self._closing and not self._outgoing:
            self.close()
            return
        self._expect()

    def _answer(self, completion: Completion) -> None:
        self._respond(outcome_reply(completion))

    def _stream(self, stream: StreamReply) -> None:
        if not self._streaming:
            self._streaming = True
            self._send(self._exchange.begin_stream() + self._exchange.piece(stream.first))
        if stream.follow is not None:
            self._unfollow = stream.follow(self._push)
            return
        self._closing = True
        self._send(self._exchange.end_stream())

    def _delegate(self, reply: DelegatedReply) -> None:
        """Let another process answer; a client that has not read earlier answers is not worth the wait."""
        if not self._outgoing:
            try:
                connection = os.dup(self._socket.fileno())
            except OSError as error:
                self._respond(error_reply(HTTPStatus.SERVICE_UNAVAILABLE, error.strerror or str(error)))
                return
            reply.take(connection, self._exchange.begin_stream())
        self.close()

    def _push(self, data: bytes) -> None:
        if self._closed:
            return
        if len(self._outgoing) > STREAM_LIMIT:
            log.warning("control: a client that does not read its events is dropped")
            self.close()
            return
        self._send(self._exchange.piece(data))

    def _send(self, data: bytes) -> None:
        self._outgoing += data
        if len(self._outgoing) > SEND_LIMIT:  # a client that asks and never reads
            self.close()
            return
        with contextlib.suppress(BlockingIOError):
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            self._watch()
            return
        except OSError:
            self.close()
            return
        if self._closing:
            self.close()
        else:
            self._watch()

    def _watch(self) -> None:
        """Wait for what is needed next; a client that has sent more than one request is not read until their turn."""
        reads = self._streaming or not (self._exchange.has_more if self._busy else self._turn)
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if self._outgoing else 0)
        if events:
            self._loop.watch(self._socket.fileno(), events, self._ready)
        else:
            self._loop.unwatch(self._socket.fileno())


def _nothing() -> None:
    """Stand in for the function that ends a stream, if there is none."""
