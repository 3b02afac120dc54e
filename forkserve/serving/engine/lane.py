"""What is ready, and who takes it: the innermost loop of every worker.

Rules: a lane decides nothing about requests. Bytes for a connection that waits for one go to `driver.take`, other
events of connections to `driver.handle`, those of other descriptors to their handler. `serving.native` has the same
in C, which besides reads most heads, and starts requests that are whole with them, without asking the driver.
"""

from __future__ import annotations

from typing import Any

from forkserve.serving.engine.connection import READABLE, Phase
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.native import hot

__all__ = ["BATCH", "lane_of"]

BATCH = 256
"""Events taken from epoll at once: enough to amortise the call, few enough to keep the clock true."""
BODY = Phase.BODY


class Lane:
    """The events of one driver."""

    __slots__ = ("_driver", "_events")

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._events: list[tuple[int, int]] = []

    def wait(self, timeout: float | None) -> None:
        """Wait for events, at most `timeout` seconds (None: for ever)."""
        self._events = self._driver.epoll.poll(timeout, BATCH)

    def serve(self) -> None:
        """Do what the events ask for."""
        driver = self._driver
        connections, receive = driver.connections, driver.receive
        for fd, event in self._events:
            conn = connections.get(fd)
            try:
                if conn is None:
                    if fd in driver.handlers:
                        driver.handlers[fd]()
                elif event != READABLE or conn.exchange is not None or conn.inbox or conn.phase > BODY:
                    # What was read ahead comes first: a pipelined request may still wait for its turn in `todo`.
                    driver.handle(conn, event)
                else:
                    receive(conn)
            except BaseException as error:  # noqa: BLE001 - the fault barrier of one connection
                driver.fault(fd, error)


def lane_of(driver: Any) -> Any:
    """Return the lane of a driver: in C where it is there."""
    return Lane(driver) if hot is None else hot.Lane(driver, (RequestLine, Fields))
