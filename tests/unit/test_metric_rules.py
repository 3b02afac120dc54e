"""Our metrics keep the rules of Prometheus and OpenMetrics, and what checks that sees each breach of them."""

from __future__ import annotations

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from forkserve.control.status.answers import wants_openmetrics
from forkserve.supervision.figures import Histogram
from forkserve.supervision.metrics.exposition import (
    FamilyKind,
    MetricFamily,
    histogram_samples,
    openmetrics,
    prometheus,
)
from forkserve.supervision.metrics.report import FAMILIES
from forkserve.unix.counters import BUCKETS
from tests.support.metriclint import faults

GOOD = """\
# HELP http_seconds Durations.
# TYPE http_seconds histogram
http_seconds_bucket{le="0.1"} 1
http_seconds_bucket{le="+Inf"} 3
http_seconds_count 3
http_seconds_sum 2.5
# HELP restarts_total Processes lost, by "reason".
# TYPE restarts_total counter
restarts_total{reason="a \\"b\\" \\\\ c"} 2
restarts_total{reason="other"} 0
"""


def every_family() -> list[MetricFamily]:
    """Return all that we have, each with two series whose labels must be escaped."""
    found = []
    for name, (kind, text) in FAMILIES.items():
        family = MetricFamily(name, kind, text)
        for number, watcher in enumerate(('a "b"\\c\nd', "web")):
            if kind is FamilyKind.HISTOGRAM:
                histogram = Histogram()
                histogram.counts[:] = [number] * BUCKETS
                histogram_samples(family, histogram, watcher=watcher)
            else:
                family.add(number, watcher=watcher)
        found.append(family)
    return found


def test_all_that_we_write_keeps_the_rules_in_both_formats() -> None:
    for write, parser in ((openmetrics, openmetrics_parser), (prometheus, text_parser)):
        text = write(every_family()).decode()
        assert faults(text) == []
        read = {each.name for each in parser.text_string_to_metric_families(text)}
        assert read == set(FAMILIES)


def test_openmetrics_names_the_unit_of_each_metric_that_has_one() -> None:
    families = list(openmetrics_parser.text_string_to_metric_families(openmetrics(every_family()).decode()))
    units = {each.name: each.unit for each in families}
    assert (units["http_server_request_duration_seconds"], units["forkserve_rss_bytes"]) == ("seconds", "bytes")
    assert (units["forkserve_busy_ratio"], units["forkserve_restarts"]) == ("ratio", "")
    assert "# UNIT" not in prometheus(every_family()).decode()


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("", True),
        ("*/*", True),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", True),
        ("text/plain", False),
        ("text/plain;version=0.0.4;q=0.9,*/*;q=0.1", False),
        ("text/*", False),
        ("TEXT/*;q=0.5, application/*;q=0.4", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0, */*", False),
        (";;;q=x,,", True),
    ],
)
def test_the_format_is_the_preferred_one(accept: str, preferred: bool) -> None:
    assert wants_openmetrics(accept) is preferred


def test_a_good_page_has_no_fault() -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('restarts_total{reason="other"} 0', "restarts_total 1\nrestarts_total 1", "the series stands twice"),
        ("# HELP restarts_total Processes", "# HELP http_seconds Processes", "a second HELP"),
        ("# TYPE restarts_total counter", "# TYPE http_seconds counter", "a second TYPE"),
        ("restarts_total", "restarts", "_total"),
        ("restarts_total counter", "restarts_total gauge", "_total is for counters"),
        ('# HELP restarts_total Processes lost, by "reason".\n', "", "no HELP"),
        ("Durations.", "", "no help text"),
        ('"+Inf"} 3', '"0.5"} 3', "up to +Inf"),
        ('le="0.1"} 1', 'le="0.1"} 4', "do not add up"),
        ("_count 3", "_count 4", "_count is not"),
        ("http_seconds_sum 2.5\n", "", "no _sum"),
        ("http_seconds", "http_ms", "are the units"),
        ("http_seconds", "httpSeconds", "lower case"),
        ("http_seconds", "http_histogram", "says its type"),
        ("reason", "Reason", "lower case"),
        ('{reason="other"}', '{le="1"}', "for histograms"),
        ("} 0\n", "} -1\n", "below zero"),
        ("} 0\n", "} nothing\n", "no number"),
        ("} 0\n", "}  0\n", "no sample"),
        ("} 0\n", "} 0", "has no end"),
        ('restarts_total{reason="other"} 0\n', "restarts_total{reason=other} 0\n", "cannot be read"),
        ("http_seconds_sum 2.5\n# HELP", "# HELP", "no _sum"),
        ("} 0\n", '} 0\nhttp_seconds_bucket{le="7"} 3\n', "do not stand together"),
        ("histogram\n", "thing\n", "unknown type"),
        ("http_seconds", "http_count", "are for histograms"),
    ],
)
def test_each_breach_is_seen(before: str, after: str, fault: str) -> None:
    assert before in GOOD
    page = GOOD.replace(before, after)
    if fault == "are for histograms":
        page = page.replace("http_count histogram", "http_count gauge")
    assert any(fault in each for each in faults(page)), faults(page)
