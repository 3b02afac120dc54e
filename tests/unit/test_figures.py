"""What is believed of the counters of a process, and what becomes of its totals."""

from __future__ import annotations

import math
import struct

import msgspec
import pytest

from forkserve.supervision.figures import GenerationFigures, WatcherFigures
from forkserve.supervision.metrics.exposition import FamilyKind, MetricFamily, histogram_samples, openmetrics
from forkserve.unix.counters import (
    BUCKETS,
    PAGE,
    SERIES,
    SERIES_AT,
    SERIES_MOST,
    CounterField,
    PageReading,
    SeriesReading,
    read_page,
)

OK = ("GET", 200)


def reading(count: int, seconds: float = 0.0, *, status: int = 200, bucket: int = 0) -> PageReading:
    counts = [0] * BUCKETS
    counts[bucket] = count
    return PageReading(begun=count, ended=count, series={("GET", status): SeriesReading(tuple(counts), seconds)})


def taken(figures: WatcherFigures, *readings: PageReading, number: int = 1, generation: int = 1) -> int:
    for after, each in enumerate(readings, 1):
        figures.take(number, generation, each, begun=100.0, now=100.0 + after)
    return figures.of(generation, now=0.0).requests


def test_a_total_survives_the_process_and_counts_it_once() -> None:
    figures = WatcherFigures()

    assert taken(figures, reading(3), reading(3), reading(5, 0.5)) == 5
    figures.forget(1)
    assert taken(figures, reading(2), number=2) == 7
    assert taken(figures, reading(4), number=3, generation=2) == 4
    assert figures.all().requests["GET 200"].total == 11


@pytest.mark.parametrize(
    "absurd",
    [
        pytest.param(reading(2), id="fallen"),
        pytest.param(reading(10**15), id="faster-than-any-processor"),
        pytest.param(reading(4, 1e9), id="longer-than-it-lives"),
        pytest.param(reading(4, 0.0), id="sum-has-fallen"),
        pytest.param(reading(9, 0.5, bucket=1), id="one-bucket-has-fallen"),
    ],
)
def test_what_cannot_be_is_not_believed_and_what_follows_is(absurd: PageReading) -> None:
    figures = WatcherFigures()
    taken(figures, reading(3, 0.5))

    assert taken(figures, absurd) == 3
    assert figures.ignored == 1
    figures.take(1, 1, reading(6, 0.7), begun=100.0, now=110.0)
    assert figures.of(1, now=0.0).requests == 6
    assert figures.all().requests["GET 200"].seconds == pytest.approx(0.7)


def test_a_page_of_noise_is_read_as_something_finite() -> None:
    for word in (-1, 2**63 - 1, -(2**63), struct.unpack("=q", struct.pack("=d", math.nan))[0]):
        page = read_page(struct.pack(f"={PAGE // 8}q", *[word] * (PAGE // 8)))
        figures = WatcherFigures()
        figures.take(1, 1, page, begun=0.0, now=1.0)

        assert all(count >= 0 for count in (page.begun, page.ended, page.shed, page.refused, page.capacity))
        assert math.isfinite(page.beat)
        assert math.isfinite(page.patience)
        assert figures.of(1, now=0.0).requests == 0


def test_series_are_read_as_far_as_they_are_in_use_and_make_sense() -> None:
    words = [0] * (PAGE // 8)
    words[CounterField.SERIES_USED] = 3
    for number, key in enumerate((1200, 99_999_999, 3404)):
        words[SERIES_AT + number * SERIES] = key
        words[SERIES_AT + number * SERIES + 1] = number + 1
    words[SERIES_AT + 5 * SERIES] = 1500

    page = read_page(struct.pack(f"={PAGE // 8}q", *words))

    assert {key: sum(each.counts) for key, each in page.series.items()} == {OK: 1, ("POST", 404): 3}
    assert SERIES_AT + SERIES_MOST * SERIES <= PAGE // 8


def test_old_generations_are_added_up() -> None:
    figures = WatcherFigures()
    for generation in range(1, 8):
        taken(figures, reading(1), number=generation, generation=generation)

    assert sorted(figures.generations) == [5, 6, 7]
    assert figures.all().requests["GET 200"].total == 7


def test_figures_can_be_written_down_and_read_back() -> None:
    figures = WatcherFigures()
    taken(figures, reading(3, 0.25), reading(5, 0.5, status=500))
    figures.count_restart("signal")
    data = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(figures, str_keys=True)))

    again = msgspec.convert(data, WatcherFigures, str_keys=True)

    assert again == figures
    again.take(1, 1, reading(6, 0.6), begun=100.0, now=110.0)
    assert again.of(1, now=0.0).requests == 3 + 5 + 3


def test_a_picture_tells_what_a_decision_needs() -> None:
    figures = WatcherFigures()
    taken(figures, reading(99, 0.1))
    before = figures.of(1, now=1.0)
    figures.take(1, 1, reading(1, 9.0, status=503, bucket=13), begun=0.0, now=110.0)
    figures.take(1, 1, reading(198, 0.2), begun=0.0, now=111.0)
    figures.totals(1).crashes += 1

    window = figures.of(1, now=2.0, processes=4, memory=1000).since(before)

    assert (window.requests, window.errors, window.crashes, window.memory) == (100, 1, 1, 1000)
    assert window.error_share == pytest.approx(0.01)
    assert (window.quantile(0.5), window.quantile(0.99), window.quantile(0.999)) == (0.005, 0.005, 10.0)
    assert GenerationFigures(generation=1, at=0.0).quantile(0.99) == 0.0


def test_labels_are_escaped() -> None:
    family = MetricFamily("x", FamilyKind.GAUGE, "a\\b\nc").add(1, name='a"b\\c\nd')
    figures = WatcherFigures()
    taken(figures, reading(2, 0.5))
    histogram = MetricFamily("h", FamilyKind.HISTOGRAM, "")
    histogram_samples(histogram, figures.all().requests["GET 200"])

    text = openmetrics([family, histogram]).decode()

    assert 'x{name="a\\"b\\\\c\\nd"} 1\n' in text
    assert 'h_bucket{le="0.005"} 2\n' in text
    assert "h_sum 0.5\n# EOF\n" in text
