"""Ready descriptors, and what serves them: the innermost loop of every worker.

Rules: the queue decides nothing about requests. Bytes for a connection that waits for a request go to `Http1.receive`,
other events of connections to `Http1.handle`, those of other descriptors to their handler. `serving.native` has the
same in C, which also reads most heads, and starts whole requests itself.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.http1 import Http1
from forkserve.serving.engine.phases import READABLE, Phase
from forkserve.serving.engine.protocols import EngineLoop
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.native import hot

__all__ = ["BATCH", "ReadyQueue", "ready_queue"]

BATCH = 256
"""Events taken from epoll at once: enough to amortise the call, few enough to keep the clock accurate."""
BODY = Phase.BODY


class ReadyQueue:
    """The ready descriptors of one loop; `on_fault` is called when the handling of one raises."""

    __slots__ = ("_connections", "_events", "_http1", "_loop", "_on_fault")

    def __init__(
        self,
        loop: EngineLoop,
        http1: Http1,
        connections: dict[int, Connection],
        on_fault: Callable[[int, BaseException], None],
    ) -> None:
        self._loop = loop
        self._http1 = http1
        self._connections = connections
        self._on_fault = on_fault
        self._events: list[tuple[int, int]] = []

    def wait(self, timeout: float | None) -> float:
        """Wait for events, at most `timeout` seconds (None: for ever); returns the instant after it (monotonic)."""
        self._events = self._loop.epoll.poll(timeout, BATCH)
        return monotonic()

    def serve(self) -> None:
        """Handle the events."""
        connections, handlers, http1 = self._connections, self._loop.handlers, self._http1
        receive = http1.receive
        for fd, event in self._events:
            conn = connections.get(fd)
            try:
                if conn is None:
                    if fd in handlers:
                        handlers[fd]()
                elif event != READABLE or conn.exchange is not None or conn.inbox or conn.phase > BODY:
                    # What was read ahead comes first: a pipelined request may still wait for its turn in `todo`.
                    http1.handle(conn, event)
                else:
                    receive(conn)
            except BaseException as error:  # noqa: BLE001 - the fault barrier of one connection
                self._on_fault(fd, error)


def ready_queue(
    loop: EngineLoop, http1: Http1, connections: dict[int, Connection], on_fault: Callable[[int, BaseException], None]
) -> Any:
    """Return the queue of a loop: in C if available."""
    if hot is None:
        return ReadyQueue(loop, http1, connections, on_fault)
    fd = loop.epoll.fileno()
    return hot.ReadyQueue(http1, fd, connections, loop.handlers, on_fault, (RequestLine, Fields))
