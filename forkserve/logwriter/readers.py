"""Clients that read the output of processes as it arrives: those of the control interface, over their own connections.

The master passes a connection that has asked for logs, with the head of the answer; then follow server-sent events, in
the chunks of RFC 9112 section 7.1, which the master never sees. A client that does not read is dropped: no process and
no other client waits for it.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from forkserve.logwriter.lastoutput import LastOutput, Portion, newest
from forkserve.logwriter.protocol import Captured

__all__ = ["LEFT_BEHIND", "MOST", "Asked", "Readers"]

MOST = 64
"""Most readers at a time."""
LEFT_BEHIND = 1024 * 1024
"""Most bytes that wait for a reader, besides what was kept when it connected."""
_WATCHERS = 256
"""Watchers without a process whose last output is kept; those that ended first are dropped."""
_REFUSED = b'{"error": "%d others read logs already", "code": "refused"}' % MOST
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_REFUSED), _REFUSED)
)
_SIGNS_OF_LIFE = select.EPOLLIN | select.EPOLLRDHUP


@dataclass(frozen=True, slots=True)
class Asked:
    """The request of a reader: `last` lines or all, of one process if named, and with `follow` new ones."""

    watchers: tuple[str, ...]
    name: str | None
    last: int | None
    follow: bool
    head: str
    """The head of its answer."""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Asked:
        """Return the request that the master has passed on."""
        return cls(tuple(facts["watchers"]), facts["name"], facts["last"], facts["follow"], facts["head"])

    def means(self, watcher: str, name: str) -> bool:
        """Tell whether the output of a process is wanted."""
        return watcher in self.watchers and self.name in (None, name)


class _Reader:
    def __init__(self, connection: socket.socket, asked: Asked) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.asked = asked
        self.outgoing = bytearray()
        self.is_ending = False

    def end(self) -> None:
        self.is_ending = True
        self.outgoing += b"0\r\n\r\n"

    def flush(self) -> bool:
        """Send as much as possible; False when the connection is over."""
        try:
            while self.outgoing:
                del self.outgoing[: self.connection.send(self.outgoing)]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return not self.is_ending


class Readers:
    """The last output, and its readers. `poll` tells the caller when to call `on_ready`."""

    def __init__(self, poll: select.epoll) -> None:
        self._poll = poll
        self._kept: dict[str, LastOutput] = {}
        self._readers: dict[int, _Reader] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._readers

    def keep(self, captured: Captured) -> None:
        """Make room for the output of a process that has started."""
        kept = self._kept.pop(captured.watcher, None) or LastOutput(captured.kept)
        kept.limit = captured.kept
        self._kept[captured.watcher] = kept  # last: those that begin are younger than those that have ended

    def forget(self, living: Iterable[str]) -> None:
        """Called when a process has ended, with the watchers that have others: only a limited number without any
        are kept.
        """
        here = set(living)
        ended = [each for each in self._kept if each not in here]
        for watcher in ended[: len(ended) - _WATCHERS] if len(ended) > _WATCHERS else ():
            del self._kept[watcher]

    def take(self, captured: Captured, lines: list[bytes], at: float) -> None:
        """Add lines of a process."""
        kept = self._kept.get(captured.watcher)
        if kept is None or not captured.kept:
            return
        kept.add(captured.name, captured.pid, lines, is_stderr=captured.is_stderr, at=at)
        wanted = [each for each in self._readers.values() if each.asked.means(captured.watcher, captured.name)]
        if wanted:
            data = _chunk([Portion(0, at, captured.name, captured.pid, captured.is_stderr, lines)])
            for reader in wanted:
                self._push(reader, data)

    def add(self, fd: int, asked: Asked) -> None:
        """Answer a request over the connection `fd`, which this owns from now on."""
        reader = _Reader(socket.socket(fileno=fd), asked)
        if len(self._readers) >= MOST:
            reader.outgoing += _BUSY
            reader.flush()
            reader.connection.close()
            return
        kept = [self._kept[each].last(name=asked.name) for each in asked.watchers if each in self._kept]
        portions = sorted((each for some in kept for each in some), key=attrgetter("at"))
        reader.outgoing += asked.head.encode("latin-1") + _chunk(newest(portions, asked.last))
        if not asked.follow:
            reader.end()
        self._readers[fd] = reader
        self._poll.register(fd, _SIGNS_OF_LIFE)
        self._flush(reader)

    def on_ready(self, fd: int, events: int) -> None:
        """Called when a connection has room again, or has ended."""
        reader = self._readers[fd]
        if events & select.EPOLLOUT:
            self._flush(reader)
        if fd in self._readers and events & ~select.EPOLLOUT and not self._is_there(reader):
            self._drop(reader)

    def close(self) -> None:
        """End all answers, as far as they can be sent at once."""
        for reader in tuple(self._readers.values()):
            if not reader.is_ending:
                reader.end()
            reader.flush()
            self._drop(reader)

    def _push(self, reader: _Reader, data: bytes) -> None:
        if reader.is_ending:
            return
        behind = len(reader.outgoing)
        reader.outgoing += data
        if behind > LEFT_BEHIND:
            self._drop(reader)
        elif not behind:
            self._flush(reader)

    def _flush(self, reader: _Reader) -> None:
        if not reader.flush():
            self._drop(reader)
            return
        more = select.EPOLLOUT if reader.outgoing else 0
        self._poll.modify(reader.connection.fileno(), _SIGNS_OF_LIFE | more)

    def _is_there(self, reader: _Reader) -> bool:
        """Read on and ignore the input: end of file means that the client has left."""
        try:
            return bool(reader.connection.recv(4096))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _drop(self, reader: _Reader) -> None:
        fd = reader.connection.fileno()
        if self._readers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._poll.unregister(fd)
            reader.connection.close()


def _chunk(portions: list[Portion]) -> bytes:
    data = b"".join(_events(each) for each in portions)
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""  # a chunk without data would be the last


def _events(portion: Portion) -> bytes:
    stream = "stderr" if portion.is_stderr else "stdout"
    facts = {"time": round(portion.at, 3), "name": portion.name, "pid": portion.pid, "stream": stream}
    texts = (line.decode("utf-8", "backslashreplace") for line in portion.lines)
    return b"".join(b"data: %s\n\n" % msgspec.json.encode({**facts, "text": text}) for text in texts)
