"""ZeroMQ sockets with limits: on the size of a message, on what waits for a peer, and on access to a file."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any, TypeVar
from urllib.parse import urlsplit

import zmq

from forkserve.config.sidecars import socket_path
from forkserve.errors import BindError
from forkserve.unix.privileges import user_id
from forkserve.unix.socketfiles import SocketFile, clear_path, created_at

__all__ = ["bound", "is_loopback"]

S = TypeVar("S", bound=zmq.Socket[Any])

log = logging.getLogger("forkserve.circus")

LARGEST_MESSAGE = 256 * 1024
"""Most bytes of one frame; libzmq closes the connection of a peer that sends more."""
QUEUE = 1000
"""Most messages that wait for one peer; further ones are dropped for that peer."""


def bound(
    context: zmq.Context[S], kind: int, endpoint: str, files: contextlib.ExitStack, *, owner: str | None = None
) -> S:
    """Return a listening socket; raises BindError.

    The file of an `ipc://` endpoint is accessible only to its owner: the user we run as, or `owner`. It is removed when
    `files` closes, which libzmq does not do; until the socket closes, no other file can have its inode.
    """
    path = socket_path(endpoint)
    if path is not None:
        clear_path(path, endpoint)  # libzmq would unlink whatever is there
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 500)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
    socket.setsockopt(zmq.SNDHWM, QUEUE)
    socket.setsockopt(zmq.RCVHWM, QUEUE)
    socket.setsockopt(zmq.IPV6, 1)
    previous = os.umask(0o177)
    try:
        socket.bind(endpoint)
        if path is not None:
            files.callback(_own(path, owner).remove)
    except (zmq.ZMQError, OSError) as error:
        socket.close(0)
        raise BindError(f"{endpoint}: {error.strerror or error}") from None
    finally:
        os.umask(previous)
    _tell(endpoint)
    return socket


def _own(path: str, owner: str | None) -> SocketFile:
    file = created_at(path)
    try:
        if owner is not None:
            os.chown(path, user_id(owner), -1)
    except OSError:
        file.remove()
        raise
    return file


def _tell(endpoint: str) -> None:
    if endpoint.startswith("ipc://"):
        log.info("listening at %s", endpoint)
    elif is_loopback(endpoint):
        log.info("listening at %s, which has no password: every user of this machine may use it", endpoint)
    else:
        log.warning("listening at %s, which has no password: anyone who reaches it may run commands here", endpoint)


def is_loopback(endpoint: str) -> bool:
    """Tell whether only programs of this machine reach an endpoint."""
    if not endpoint.startswith("tcp://"):
        return True
    host = urlsplit(endpoint).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
