"""What a request leaves in memory: the same by the way in C as by that in Python."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from forkserve.serving.engine.counting import PageCounter
from forkserve.serving.native import hot
from forkserve.unix.counters import BOUNDS, METHODS, PAGE, SERIES_MOST, CounterField, PageReading, read_page

KINDS = [pytest.param(PageCounter, id="python")]
if hot is not None:
    KINDS.append(pytest.param(hot.Counter, id="c"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def page_of(memory: bytearray) -> PageReading:
    return read_page(bytes(memory))


def test_a_request_is_counted_where_it_belongs(kind: Any) -> None:
    memory, now = bytearray(PAGE), time.monotonic()
    counter, exchange = kind(memoryview(memory), now - 3.0), SimpleNamespace(since=0.0)
    counter.begin(exchange)

    assert exchange.since == now - 3.0
    assert (page_of(memory).begun, page_of(memory).ended) == (1, 0)
    counter.end("GET", 200, exchange.since)
    page = page_of(memory)
    assert (page.begun, page.ended) == (1, 1)
    assert page.series["GET", 200].counts == (0,) * BOUNDS.index(5.0) + (1,) + (0,) * (len(BOUNDS) - BOUNDS.index(5.0))
    assert page.series["GET", 200].seconds == pytest.approx(3.0, abs=2.0)
    assert page.beat >= now


def test_methods_that_clients_make_up_are_one(kind: Any) -> None:
    memory = bytearray(PAGE)
    counter = kind(memoryview(memory), 1.0)
    for method in (*METHODS, "get", "GETX", "PROPFIND", "PO", "ÄPFEL"):
        counter.end(method, 404, time.monotonic())

    series = page_of(memory).series
    assert {method for method, _ in series} == set(METHODS)
    assert sum(series["_OTHER", 404].counts) == 6


def test_too_many_series_are_one(kind: Any) -> None:
    memory = bytearray(PAGE)
    counter = kind(memoryview(memory), 1.0)
    for status in range(100, 400):
        counter.end("POST", status, time.monotonic())

    series = page_of(memory).series
    assert len(series) == SERIES_MOST
    assert sum(series["_OTHER", 0].counts) == 300 - (SERIES_MOST - 1)
    assert sum(sum(each.counts) for each in series.values()) == 300


def test_a_counter_goes_on_with_what_is_there(kind: Any) -> None:
    memory = bytearray(PAGE)
    for _ in range(2):
        counter = kind(memoryview(memory), 1.0)
        counter.begin(SimpleNamespace())
        counter.reconcile(0)
        counter.end("PUT", 204, time.monotonic())
        counter.end("GET", 200, time.monotonic())

    page = page_of(memory)
    assert {key: sum(each.counts) for key, each in page.series.items()} == {("PUT", 204): 2, ("GET", 200): 2}


def test_a_closed_counter_writes_nothing(kind: Any) -> None:
    memory = bytearray(PAGE)
    counter = kind(memoryview(memory), 1.0)
    counter.close()
    counter.begin(SimpleNamespace())
    counter.end("GET", 200, 1.0)
    counter.beat(5.0)
    counter.reconcile(1)
    counter.close()

    assert memory == bytearray(PAGE)


def test_a_clock_that_is_behind_and_a_status_that_is_none(kind: Any) -> None:
    memory = bytearray(PAGE)
    counter = kind(memoryview(memory), 1.0)
    counter.end("GET", 200, time.monotonic() + 100)

    assert page_of(memory).series["GET", 200].seconds == 0.0


@pytest.mark.parametrize("found", [2**63 - 1, -(2**63), -1])
def test_whatever_others_have_written_there_requests_are_counted_on(kind: Any, found: int) -> None:
    memory = bytearray(PAGE)
    counter, words = kind(memoryview(memory), 1.0), memoryview(memory).cast("q")
    counter.end("GET", 200, 1.0)
    for place in range(len(words)):
        words[place] = found

    for _ in range(2):
        counter.begin(SimpleNamespace(since=0.0))
        counter.end("GET", 200, time.monotonic())
        counter.end("POST", 404, time.monotonic())
        counter.add(CounterField.SHED)
        counter.reconcile(3)
    page_of(memory)


@pytest.mark.skipif(hot is None, reason="there is no compiled part")
def test_what_is_no_page_is_refused() -> None:
    assert hot is not None
    with pytest.raises(ValueError, match="no page"):
        hot.Counter(bytearray(100), 1.0)


def test_no_count_is_lost_between_threads(kind: Any) -> None:
    memory, each, names = bytearray(PAGE), 600, ("GET", "POST", "PURGE")
    counter, before = kind(memoryview(memory), 1.0), sys.getswitchinterval()

    def answer() -> None:
        for number in range(each):
            counter.end(names[number % 3], 200 + number % 5, time.monotonic())

    threads = [threading.Thread(target=answer) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    page = page_of(memory)
    assert page.ended == 8 * each
    assert {key: sum(found.counts) for key, found in page.series.items()} == {
        (name, status): 8 * each // 15 for name in ("GET", "POST", "_OTHER") for status in range(200, 205)
    }


def test_counts_and_seconds_go_on_after_an_exec(kind: Any) -> None:
    memory = bytearray(PAGE)
    kind(memoryview(memory), 1.0).end("PURGE", 404, time.monotonic() - 3.0)
    again = kind(memoryview(memory), 1.0)
    again.end("PURGE", 404, time.monotonic() - 4.0)
    again.begin(SimpleNamespace(since=0.0))

    page = page_of(memory)
    assert (page.begun, page.ended) == (1, 2)
    assert list(page.series) == [("_OTHER", 404)] and sum(page.series["_OTHER", 404].counts) == 2
    assert 7.0 <= page.series["_OTHER", 404].seconds < 12.0
