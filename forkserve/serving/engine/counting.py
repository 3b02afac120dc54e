"""Counts requests in this process's page of the scoreboard; `serving.native` has the same in C.

Rules: a request's duration begins with the turn of the loop that found its head, so it includes waiting for others of
the same turn, and ends when the last byte of its answer was given to the connection. Each count is in the page before
the next request begins, so a process that is killed takes none with it.

The counts are kept as Python's numbers and stored in the page, since reading a word of it costs as much as storing one.
Threads count without a lock: between the load of a count and its store there is no call and no jump backwards, and only
there does the interpreter switch threads (`eval_breaker` in CPython's ceval.c).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any

from forkserve.serving.counted import RequestCounter
from forkserve.serving.engine.limits import FOREVER, GRACE
from forkserve.serving.engine.native import allocate_lock
from forkserve.serving.native import hot
from forkserve.unix.counters import (
    BOUNDS,
    BUCKETS,
    METHODS,
    PAGE,
    SERIES,
    SERIES_AT,
    SERIES_MOST,
    CounterField,
)
from forkserve.unix.scoreboard import OwnRecord

__all__ = ["PageCounter", "Uncounted", "counter_of"]

_BEGUN, _ENDED, _USED, _BEAT = (
    int(each) for each in (CounterField.BEGUN, CounterField.ENDED, CounterField.SERIES_USED, CounterField.BEAT)
)
_clock = time.monotonic
_METHODS = {name: number for number, name in enumerate(METHODS) if number}
_SUM, _PLACE = BUCKETS, BUCKETS + 1
"""Behind the counts of a series: the sum of its seconds, and the word at which its counts begin."""
_FIRST = BOUNDS[0]
_MOST = 1 << 62
"""A word that is larger was written by another process."""
_PACE = 0.25
"""Seconds between two beats by answers; the least patience of the master is four."""


class PageCounter:
    """The counters of this process in a page of writable memory; `turn` is when the turn of the loop began."""

    __slots__ = ("_beat_due", "_begun", "_by_number", "_ended", "_lock", "_reals", "_series", "_words", "turn")

    def __init__(self, page: memoryview, turn: float) -> None:
        self.turn = turn
        whole = page.cast("B")[:PAGE]
        self._words = words = whole.cast("q")
        self._reals = whole.cast("d")
        self._lock = allocate_lock()
        self._beat_due = 0.0
        self._begun, self._ended = _sane(words[_BEGUN]), _sane(words[_ENDED])
        self._series: dict[int, dict[str, list[Any]]] = {}
        """By status and method."""
        self._by_number = [self._read(number) for number in range(min(max(words[_USED], 0), SERIES_MOST))]
        for number, found in enumerate(self._by_number):
            method, status = divmod(words[SERIES_AT + number * SERIES], 1000)
            if 0 <= method < len(METHODS) and status:
                self._series.setdefault(status, {})[METHODS[method]] = found

    def _read(self, number: int) -> list[Any]:
        place = SERIES_AT + number * SERIES + 1
        seconds = self._reals[place + BUCKETS]
        return [
            *(_sane(count) for count in self._words[place : place + BUCKETS]),
            seconds if 0.0 <= seconds < _MOST else 0.0,
            place,
        ]

    def begin(self, exchange: Any) -> None:
        """Note that the head of a request was read; the exchange keeps the instant as `since`."""
        self._begun = self._words[_BEGUN] = self._begun + 1
        exchange.since = self.turn

    def end(self, method: str, status: int, since: float) -> None:
        """Note that it was answered."""
        now = _clock()
        seconds = now - since
        try:
            series = self._series[status][method]
        except KeyError:
            series = self._open(method, status)
        bucket = 0 if seconds <= _FIRST else bisect_left(BOUNDS, seconds)
        words, reals, place = self._words, self._reals, series[_PLACE]
        # No call from here on: see the module's docstring.
        series[bucket] = words[place + bucket] = series[bucket] + 1
        if seconds > 0.0:
            series[_SUM] = reals[place + BUCKETS] = series[_SUM] + seconds
        self._ended = words[_ENDED] = self._ended + 1
        if now >= self._beat_due:
            reals[_BEAT] = now
            self._beat_due = now + _PACE

    def _open(self, method: str, status: int) -> list[Any]:
        """Return the series for a method and status, a new one if need be; the last is for all that find no room."""
        named = method if method in _METHODS else METHODS[0]
        with self._lock:
            known = self._series.setdefault(status, {})
            if named not in known:
                if len(self._by_number) < SERIES_MOST:
                    self._add(_METHODS.get(named, 0) * 1000 + status)
                known[named] = self._by_number[-1]
            return known[named]

    def _add(self, key: int) -> None:
        number = len(self._by_number)
        place = SERIES_AT + number * SERIES
        self._by_number.append([*(0,) * BUCKETS, 0.0, place + 1])
        self._words[place] = 0 if number == SERIES_MOST - 1 else key
        self._words[_USED] = number + 1

    def add(self, place: int) -> None:
        """Count one more of a `CounterField`; called by the loop alone."""
        self._words[place] = _sane(self._words[place]) + 1

    def beat(self, now: float) -> None:
        """Record progress of the process, between two turns of its loop."""
        self._reals[_BEAT] = now

    def reconcile(self, running: int) -> None:
        """Set the number of requests in flight: some end without an answer, since their clients have left."""
        self._ended = self._words[_ENDED] = max(self._begun - running, 0)

    def close(self) -> None:
        """Stop counting: later counts go nowhere."""
        nowhere = memoryview(bytearray(PAGE))
        self._words, self._reals = nowhere.cast("q"), nowhere.cast("d")
        self._lock = allocate_lock()  # in a forked child the other may be held, by a thread that is not there


def _sane(word: int) -> int:
    """Return a count, 0 for one that cannot be."""
    return word if 0 <= word < _MOST else 0


class Uncounted:
    """In place of a counter if nothing reads it."""

    __slots__ = ("turn",)
    turn: float

    def begin(self, *_anything: object, **_else: object) -> None:
        """Do nothing."""

    end = add = beat = reconcile = close = begin


def counter_of(seat: OwnRecord | None, *, capacity: int, limit: float) -> RequestCounter | None:
    """Return the counter of requests for the page of this process's record; None without a page.

    `capacity` is how many requests the process can run at once, 0 for no limit. `limit` is the allowed silence of a
    request in seconds: a loop that is silent for longer is stuck.
    """
    if seat is None or seat.page is None:
        return None
    now = time.monotonic()
    seat.page.cast("q")[CounterField.CAPACITY] = capacity
    seat.page.cast("d")[CounterField.PATIENCE] = 0.0 if limit == FOREVER else limit + 2 * GRACE
    seat.page.cast("d")[CounterField.BEAT] = now
    counter: RequestCounter = PageCounter(seat.page, now) if hot is None else hot.Counter(seat.page, now)
    # This process may have executed itself again, and what ran before the exec does not run any more.
    counter.reconcile(0)
    return counter
