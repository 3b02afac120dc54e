"""The control interface's Unix socket, served in the master's own loop.

No call here blocks, and no client can cost the master more than a bounded amount: the number of connections, the size
of a request, the time to send it. A reply that waits for work holds nothing but its connection.

Access is checked twice: by the mode of the file, and by the peer's credentials (SO_PEERCRED, unix(7)): root, the
master's own user, and the users named. All others get 403.

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
from collections.abc import Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from forkserve.control.connection import ControlLoop, ControlTimer, Handler, ServedClient
from forkserve.control.place import is_live
from forkserve.errors import BindError, ExitCode
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.peer import peer_of

__all__ = ["ControlServer"]

log = logging.getLogger("forkserve.control")

MOST_CONNECTIONS = 400
ACCEPT_PAUSE = 0.2
"""Seconds for which no client is accepted after descriptors have run out."""


class ControlServer:
    """Listens on a Unix socket at `path` and hands each request to `handler`."""

    def __init__(
        self, path: Path, loop: ControlLoop, handler: Handler, *, mode: int = 0o600, uids: Collection[int] = ()
    ) -> None:
        self._begin(path, loop, handler, uids, _listen(path, mode))

    def _begin(
        self, path: Path, loop: ControlLoop, handler: Handler, uids: Collection[int], listener: socket.socket
    ) -> None:
        self.path = path
        self._loop = loop
        self._handler = handler
        self._uids = {0, os.geteuid(), *uids}
        self._connections: set[ServedClient] = set()
        self._listener = listener
        self._inode = _inode(path)
        self._paused: ControlTimer | None = None
        loop.watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)

    def to_data(self, completions: CompletionWriter) -> dict[str, Any]:
        """Return listener and clients as plain data, with what each of them waits for."""
        return {
            "path": str(self.path),
            "uids": sorted(self._uids),
            "fd": descriptor(self._listener.fileno()),
            "clients": [each.to_data(completions) for each in self._connections],
        }

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], loop: ControlLoop, handler: Handler, completions: CompletionReader
    ) -> ControlServer | None:
        """Return a server that goes on from the state of another one; None without its descriptors."""
        if number_of(data["fd"]) < 0:
            return None
        server = cls.__new__(cls)
        listener = socket.socket(fileno=number_of(data["fd"]))
        server._begin(Path(data["path"]), loop, handler, data["uids"], listener)
        for each in data["clients"]:
            client = socket.socket(fileno=number_of(each["fd"]))
            connection = ServedClient(client, loop, handler, server._connections.discard)
            server._connections.add(connection)
            connection.restore(each, completions)
        return server

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
            connection = ServedClient(client, self._loop, self._handler, self._connections.discard)
            self._connections.add(connection)
            if len(self._connections) > MOST_CONNECTIONS:
                connection.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"more than {MOST_CONNECTIONS} clients at once")
            elif peer_of(client).uid not in self._uids:
                log.warning("control: refused uid %d", peer_of(client).uid)
                connection.refuse(HTTPStatus.FORBIDDEN, "this user may not control this forkserve")


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:  # removed meanwhile
        return -1


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
