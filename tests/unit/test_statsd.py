"""Metrics as lines of statsd, and what becomes of them where nobody listens."""

from __future__ import annotations

import socket

from forkserve.supervision.figures import Histogram
from forkserve.supervision.metrics.exposition import FamilyKind, MetricFamily, histogram_samples
from forkserve.supervision.metrics.statsd import MOST, StatsdSink, statsd_lines
from forkserve.unix.counters import BUCKETS


def families(count: int) -> list[MetricFamily]:
    durations = MetricFamily("duration_seconds", FamilyKind.HISTOGRAM, "")
    histogram_samples(durations, Histogram([count] + [0] * (BUCKETS - 1), 0.002 * count), watcher="web", status="200")
    return [
        durations,
        MetricFamily("restarts", FamilyKind.COUNTER, "").add(count, watcher="we:b|@\n", reason="exit"),
        MetricFamily("busy", FamilyKind.GAUGE, "").add(0.25, watcher="web"),
    ]


def test_counters_are_sent_as_what_was_added_and_durations_as_means() -> None:
    sent: dict[str, float] = {}
    first = list(statsd_lines(families(10), "site.fork", sent))

    assert first == [
        "site.fork.duration_seconds.web.200:10|c",
        "site.fork.duration_seconds.web.200:2|ms",
        "site.fork.restarts.we_b_.exit:10|c",
        "site.fork.busy.web:0.25|g",
    ]
    assert list(statsd_lines(families(10), "site.fork", sent)) == ["site.fork.busy.web:0.25|g"]
    assert "site.fork.duration_seconds.web.200:5|c" in list(statsd_lines(families(15), "site.fork", sent))


def test_datagrams_are_of_bounded_size_and_whole_lines() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(20)
        sink = StatsdSink(collector.getsockname(), "")
        gauge = MetricFamily("a_gauge_with_a_name", FamilyKind.GAUGE, "")
        for number in range(200):
            gauge.add(number, watcher=f"web{number}")
        sink.send([gauge])
        sink.close()
        lines: list[bytes] = []
        while len(lines) < 200:
            data = collector.recv(65536)
            assert len(data) <= MOST
            lines += data.split(b"\n")

    assert lines == [b"a_gauge_with_a_name.web%d:%d|g" % (number, number) for number in range(200)]


def test_a_collector_that_is_not_there_costs_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    sink = StatsdSink(address, "")
    for _ in range(100):
        sink.send(families(1))
    sink.close()
