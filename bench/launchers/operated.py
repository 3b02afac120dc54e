"""A server that is told to reload, upgrade or end, and does so well or badly, to prove that the harness sees which.

Arguments: good or bad, host, port, the port for health or 0, the application. Good: what waits is answered before the
end, streams and WebSockets end in order, health is answered at once. Bad: all ends at once, and health is slow.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

LAG = 0.1  # seconds for an answer about the health of the bad one
ENDING = 0.5  # seconds in which the good one answers what waits
CLOSE = b"\x88\x02\x03\xf4"  # code 1012, RFC 6455 section 7.4.1
EVENT = b"a\r\ndata: %d\n\n\r\n"
QUEUE = 1024


class Operated(asyncio.Protocol):
    """Answers each request head; keeps streams and WebSockets open until a reload."""

    open: set[Operated] = set()

    def __init__(self, body: bytes, lag: float) -> None:
        self.body = body
        self.lag = lag
        self.last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer one request; the harness never pipelines."""
        if b"websocket" in data.lower():
            self._keep(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", CLOSE)
        elif data.startswith(b"GET /stream "):
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            self._keep(head, EVENT % 39 + b"0\r\n\r\n")
        else:
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.body), self.body)
            asyncio.get_running_loop().call_later(self.lag, self.transport.write, answer)

    def _keep(self, head: bytes, last: bytes) -> None:
        self.transport.write(head)
        self.last = last
        Operated.open.add(self)

    def end(self) -> None:
        """Say the last words, and close."""
        self.transport.write(self.last)
        self.transport.close()


def _body_of(application: str) -> bytes:
    kind = application.partition(":")[2]
    if kind.startswith("pid"):
        return b"%d" % os.getpid()
    return b"one" if application.startswith("deployed") else b"Hello, World!"


def _reload() -> None:
    for each in Operated.open:
        each.end()
    Operated.open.clear()


def _answers_to(loop: asyncio.AbstractEventLoop, *, good: bool) -> dict[signal.Signals, Callable[[], object]]:
    if not good:
        return dict.fromkeys((signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR2), lambda: os._exit(0))
    end = {number: lambda: loop.call_later(ENDING, loop.stop) for number in (signal.SIGTERM, signal.SIGQUIT)}
    return {**end, signal.SIGHUP: _reload, signal.SIGUSR2: lambda: None}


async def main(manner: str, host: str, port: int, status: int, application: str) -> None:
    """Serve until a signal."""
    loop, good = asyncio.get_running_loop(), manner == "good"
    for number, act in _answers_to(loop, good=good).items():
        loop.add_signal_handler(number, act)
    body = _body_of(application)
    await loop.create_server(lambda: Operated(body, 0.0), host, port, backlog=QUEUE)
    if status:
        await loop.create_server(lambda: Operated(b"ok", 0.0 if good else LAG), host, status)


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
        runner.get_loop().run_forever()
