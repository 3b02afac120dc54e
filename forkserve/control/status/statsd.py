"""Sends the metrics of one master to a statsd collector, every ten seconds."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator

from forkserve.config.address import Address
from forkserve.control.status.answers import StatusRoutes
from forkserve.master import Master
from forkserve.supervision.metrics.collecting import collect
from forkserve.supervision.metrics.statsd import StatsdSink
from forkserve.supervision.os.loop import Timer

__all__ = ["statsd_running"]

log = logging.getLogger("forkserve.status")

INTERVAL = 10.0
"""Seconds between two reports, the flush interval of statsd."""


class _Reports:
    def __init__(self, master: Master, sink: StatsdSink) -> None:
        self._master = master
        self._routes = StatusRoutes(master)
        self._sink = sink
        self._timer: Timer | None = None
        self.arm()

    def arm(self) -> None:
        self._timer = self._master.loop.call_later(INTERVAL, self._report)

    def _report(self) -> None:
        self.arm()
        collect(self._master.loop, self._routes.families(), self._sink.send)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


@contextlib.contextmanager
def statsd_running(master: Master, address: Address | None, prefix: str) -> Iterator[None]:
    """Report from now on, if there is an address; one that cannot be found is logged, and prevents nothing."""
    found = None if address is None else _resolved(address)
    if found is None:
        yield
        return
    sink = StatsdSink(found, prefix)
    master.observatory.begin()
    reports = _Reports(master, sink)
    log.info("statsd: %s, every %g s", address, INTERVAL)
    try:
        yield
    finally:
        reports.close()
        sink.close()


def _resolved(address: Address) -> tuple[str, int] | None:
    """Look an address up, once; None if it cannot be found, which is logged."""
    if address.path is not None or address.fd is not None or not address.port:
        log.error("statsd_host: expected HOST:PORT, got %s; nothing is sent", address)
        return None
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        log.error("statsd_host: cannot resolve %r: %s; nothing is sent", address.host, error.strerror or error)
        return None
    return str(found[0][4][0]), address.port
