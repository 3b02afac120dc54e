"""The reader of heads in C held against the one in Python, head by head; for the property tests and the fuzzer."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from forkserve.config.serving import HttpLimits
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.native import epoll
from forkserve.serving.http.fields import Collector, Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import Profile, RequestReader
from forkserve.serving.native import hot

__all__ = ["Both", "facts"]


class Both:
    """Both ways to read the heads that come by one listener."""

    def __init__(self, collector: type[Collector], limits: HttpLimits | None = None) -> None:
        limits = limits or HttpLimits()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.epoll = epoll()
        self.listening = Listening(self.sock, {}, Profile(limits, collector, RememberedFields))
        self.python = Profile(limits, collector, RememberedFields)
        fd, kinds = self.epoll.fileno(), (RequestLine, Fields)
        self.queue = hot.ReadyQueue(self, fd, {}, {}, print, kinds)  # type: ignore[union-attr]

    def close(self) -> None:
        self.epoll.close()
        self.sock.close()

    def learn(self, data: bytes) -> None:
        """Have Python read it for the listener as well: names and hosts are learned there."""
        reader = RequestReader(self.listening.profile)
        with contextlib.suppress(Refusal):
            reader.feed(data)

    def check(self, data: bytes) -> bool:
        """Hold one reading against the other; return whether C took the head."""
        read = self.queue.read(self.listening, data)
        if read is None:
            self.learn(data)
            return False
        line, fields, size = read
        reader = RequestReader(self.python)
        assert reader.feed(data), data
        assert reader.rest == data[size:], data
        assert facts(line, fields) == facts(reader.line, reader.fields), data
        return True


def facts(line: RequestLine, fields: Fields) -> list[Any]:
    """Everything that either says, in order."""
    headers = fields.headers
    said = [getattr(line, name) for name in RequestLine.__slots__ if name not in ("again", "environ")]
    names = ("host", "keep_alive", "is_fast_path", "memo", "content_length", "chunked", "expect_continue", "upgrade")
    said += [getattr(fields, name) for name in names]
    return [*said, list(line.environ.items()), list(headers.items()) if isinstance(headers, dict) else headers]
