"""The control interface's Unix socket, served in the master's own loop.

No call here blocks, and no client can cost the master more than a bounded amount: so many connections, so large a
request, so long to send it. A reply that waits for work to be done holds nothing but its connection.

Access has two locks: the mode of the file, and the peer's credentials (SO_PEERCRED, unix(7)): root, the master's own
user, and the users named. Everybody else is told 403.

    GET  /v1             who answers, and its verbs
    GET  /v1/status      reading verbs: parameters in the query
    POST /v1/restart     every verb: parameters as a JSON object
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
from collections.abc import Callable, Collection
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import msgspec

from forkserve.control.http import ControlExchange, Reply, Request, RequestRefused, StreamReply
from forkserve.control.place import is_live
from forkserve.errors import BindError, ExitCode

__all__ = ["ControlServer", "Handler", "ControlLoop", "Respond", "ControlTimer"]

log = logging.getLogger("forkserve.control")

MOST_CONNECTIONS = 64
ACCEPT_PAUSE = 0.2
"""Seconds for which no client is accepted when descriptors have run out."""
REQUEST_TIMEOUT = 10.0
RECEIVE_SIZE = 16 * 1024
SEND_LIMIT = 8 * 1024 * 1024
STREAM_LIMIT = 1024 * 1024
"""Bytes that wait for a client which follows the events; one that reads no faster is dropped."""


class ControlTimer(Protocol):
    """An appointment with the loop that can be called off."""

    def cancel(self) -> None:
        """Call it off; a second time does nothing."""


class ControlLoop(Protocol):
    """What this server needs of the master's loop."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the ready events whenever `fd` is ready for `events`; a second call changes the events."""

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> ControlTimer:
        """Call back once, `delay` seconds from now."""


Respond = Callable[[Reply | StreamReply], None]
"""Give the reply; may be called later, and is harmless when the client has gone."""

Handler = Callable[[Request, Respond], None]
"""Answers one request by calling `respond` once, now or when the work is done."""


class ControlServer:
    """Listens on a Unix socket at `path` and hands each request to `handler`."""

    def __init__(
        self, path: Path, loop: ControlLoop, handler: Handler, *, mode: int = 0o600, uids: Collection[int] = ()
    ) -> None:
        self.path = path
        self._loop = loop
        self._handler = handler
        self._uids = {0, os.geteuid(), *uids}
        self._connections: set[_Connection] = set()
        self._listener = _listen(path, mode)
        self._inode = os.stat(path).st_ino
        self._paused: ControlTimer | None = None
        loop.watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Stop listening, drop every client, and remove the socket's file if it is still ours."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close()
        with contextlib.suppress(OSError):  # gone already, or on a file system that turned read-only
            if os.stat(self.path).st_ino == self._inode:
                self.path.unlink()

    def _listen_again(self) -> None:
        self._paused = None
        self._loop.watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # the client went away
            return
        except OSError:  # descriptors ran out, and the client waits: to ask again at once would hold the loop
            self._loop.unwatch(self._listener.fileno())
            self._paused = self._loop.call_later(ACCEPT_PAUSE, self._listen_again)
            return
        with contextlib.suppress(OSError):
            connection = _Connection(client, self._loop, self._handler, self._connections.discard)
            self._connections.add(connection)
            if len(self._connections) > MOST_CONNECTIONS:
                connection.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"more than {MOST_CONNECTIONS} clients at once")
            elif _peer_uid(client) not in self._uids:
                log.warning("control: refused uid %d", _peer_uid(client))
                connection.refuse(HTTPStatus.FORBIDDEN, "this user may not control this forkserve")


class _Connection:
    """One client: reads a request, waits for its reply, writes it, and so on until either side ends it."""

    def __init__(
        self, client: socket.socket, loop: ControlLoop, handler: Handler, forget: Callable[[_Connection], None]
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
        self._unfollow: Callable[[], None] = _nothing
        self._timer: ControlTimer | None = None
        self._expect()
        loop.watch(client.fileno(), selectors.EVENT_READ, self._ready)

    def close(self) -> None:
        """End the connection; what was not sent yet is lost."""
        if self._closed:
            return
        self._closed = True
        self._unfollow()
        self._at_ease()
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._forget(self)

    def refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer whatever comes with an error, and end the connection."""
        self._closing = True
        self._send(self._exchange.send(_error(status, text), close=True))

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

    def _advance(self) -> None:
        while not (self._busy or self._closing or self._closed):
            try:
                request = self._exchange.next_request()
            except RequestRefused as error:
                self.refuse(error.status, str(error))
                return
            if request is None:
                if self._exchange.wants_continue:
                    self._send(self._exchange.informational())
                return
            self._busy = True
            self._at_ease()
            self._handler(request, self._respond)

    def _respond(self, reply: Reply | StreamReply) -> None:
        if self._closed:
            return
        if isinstance(reply, StreamReply):
            self._stream(reply)
            return
        self._busy = False
        self._send(self._exchange.send(reply))
        self._closing = self._exchange.finished
        if self._closing and not self._outgoing:
            self.close()
            return
        self._expect()
        self._advance()

    def _stream(self, stream: StreamReply) -> None:
        self._streaming = True
        self._send(self._exchange.begin_stream() + self._exchange.piece(stream.first))
        if stream.follow is not None:
            self._unfollow = stream.follow(self._push)
            return
        self._closing = True
        self._send(self._exchange.end_stream())

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
            self._loop.watch(self._socket.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE, self._ready)
            return
        except OSError:
            self.close()
            return
        if self._closing:
            self.close()
        else:
            self._loop.watch(self._socket.fileno(), selectors.EVENT_READ, self._ready)


def _nothing() -> None:
    """Stand in for what ends a stream, where there is none."""


def _error(status: HTTPStatus, text: str) -> Reply:
    return Reply(status, msgspec.json.encode({"error": text}))


def _peer_uid(client: socket.socket) -> int:
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return int(uid)


def _listen(path: Path, mode: int) -> socket.socket:
    if path.is_socket():
        if is_live(path):
            raise BindError(
                f"control socket {path}: another forkserve listens on it; choose another with --control PATH"
            )
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    # The umask makes the file with its final mode at once: a chmod afterwards would leave a moment for others.
    previous = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        failure = BindError(
            f"control socket {path}: {error.strerror or error}; choose another place with --control PATH"
        )
        if isinstance(error, PermissionError):
            failure.exit_code = ExitCode.NO_PERMISSION
        raise failure from None
    finally:
        os.umask(previous)
    listener.listen(MOST_CONNECTIONS)
    listener.setblocking(False)
    return listener
