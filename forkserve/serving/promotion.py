"""How a worker becomes the next zygote: ordered by the master on a channel, and fit for it when it has drained.

Rules: what keeps a process from being forked is found before it offers itself, and is logged in a line.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from select import POLLIN, poll

from forkserve.config.handover import REFORK

__all__ = ["Promotion", "take_promotion"]

# That of the standard library: gevent replaces it.
_Socket = socket.socket


class Promotion:
    """The channel of a worker that may become a zygote."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    def is_ordered(self) -> bool:
        """Tell whether the master wants this process to be the next zygote."""
        poller = poll()
        poller.register(self.channel, POLLIN)
        if not poller.poll(0):
            return False
        with contextlib.suppress(OSError):
            return self.channel.recv(64) == b"promote"
        return False


def take_promotion(environ: MutableMapping[str, str]) -> Promotion | None:
    """Return the channel of this process, and hide it from programs that it executes; None if it has none."""
    text = environ.pop(REFORK, "")
    if not text.isdecimal():
        return None
    try:
        os.set_inheritable(int(text), False)
        return Promotion(_Socket(fileno=int(text)))
    except OSError:
        return None
