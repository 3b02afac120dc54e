"""Metrics for statsd: lines in UDP datagrams, for a collector that does not scrape.

Rules: a datagram is sent or lost, and nothing waits for it. Counters are sent as increments, gauges as they are,
durations as the mean of the interval. A missing collector is not reported: UDP does not tell, and a log line every ten
seconds would help no one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from forkserve.supervision.metrics.exposition import FamilyKind, MetricFamily
from forkserve.unix.datagrams import DatagramSender

__all__ = ["StatsdSink", "statsd_lines"]

MOST = 1432
"""Bytes of a datagram: what passes an Ethernet of 1500 through a tunnel, as statsd recommends."""
_LETTERS = re.compile(r"[^A-Za-z0-9_-]+")
_SKIPPED = ("_bucket",)


class StatsdSink:
    """Sends to one collector; `address` is an IP and a port."""

    def __init__(self, address: tuple[str, int], prefix: str) -> None:
        self._prefix = prefix
        self._sent: dict[str, float] = {}
        self._sender = DatagramSender(*address, numeric=True)

    def send(self, families: Iterable[MetricFamily]) -> None:
        """Send everything; what cannot be sent is lost."""
        batch = b""
        for line in statsd_lines(families, self._prefix, self._sent):
            data = line.encode("ascii", "replace")
            if batch and len(batch) + 1 + len(data) > MOST:
                self._sender.send(batch)
                batch = b""
            batch += b"\n" * bool(batch) + data
        if batch:
            self._sender.send(batch)

    def close(self) -> None:
        """Close the socket."""
        self._sender.close()


def statsd_lines(families: Iterable[MetricFamily], prefix: str, sent: dict[str, float]) -> Iterator[str]:
    """Yield a line for each sample; `sent` has the counters as last sent, and is updated."""
    for family in families:
        sums: dict[str, float] = {}
        for suffix, labels, value in family.samples:
            name = ".".join(filter(None, (prefix, family.name, *(_LETTERS.sub("_", each) for each in labels.values()))))
            if family.kind is FamilyKind.GAUGE:
                yield f"{name}:{value:g}|g"
            elif suffix in ("_total", "_count"):
                more = value - sent.get(name, 0)
                sent[name] = value
                sums[name] = more
                if more > 0:
                    yield f"{name}:{more:g}|c"
            elif suffix == "_sum":
                seconds = value - sent.get(f"{name}.sum", 0)
                sent[f"{name}.sum"] = value
                if sums.get(name):
                    yield f"{name}:{1000 * seconds / sums[name]:g}|ms"
