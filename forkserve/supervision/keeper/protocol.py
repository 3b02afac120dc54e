"""What a master, its keeper and the master after it say to each other: JSON in datagrams, descriptors beside it.

Beside the records of a guard the master tells its keeper: `listen` (with the socket at which others ask), `arm` when it
is to act at the end, `begin`, `close` with the numbers of descriptors, `hold` with the numbers of those that come
along, `keep` with the state in a memfd, at which all this counts, `ready` with a pid that serves since, and `farewell`
when all processes are to end with the master after all.

The keeper tells the master after: `hold`, `said` with what came to a notify socket meanwhile, then `kept` with the
state. That answers `done` with the process groups that are to end, or `end`. A master that asks while another lives is
told `refused`, with the reason.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["PORTION", "portions", "receive", "send"]

PORTION = 200
"""Descriptors in one message; the kernel takes 253 (SCM_MAX_FD, unix(7))."""

_LARGEST = 256 * 1024
"""Bytes of one message at most: the numbers of ten thousand descriptors."""

Facts = dict[str, Any]


def send(channel: socket.socket, facts: Facts, fds: Sequence[int] = ()) -> None:
    """Send one message; raises OSError, BlockingIOError when there is no room."""
    socket.send_fds(channel, [json.dumps(facts).encode()], list(fds))


def receive(channel: socket.socket) -> tuple[Facts | bytes | None, list[int]]:
    """Return one message and the descriptors that came along, None at the end; a record of a guard comes as bytes.

    Raises OSError.
    """
    data, fds, _, _ = socket.recv_fds(channel, _LARGEST, PORTION, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None, []
    return (json.loads(data) if data.startswith(b"{") and data.endswith(b"}") else data), fds


def portions(fds: Sequence[int]) -> Iterator[Sequence[int]]:
    """Iterate over descriptors, so many at a time as one message carries."""
    for first in range(0, len(fds), PORTION):
        yield fds[first : first + PORTION]
