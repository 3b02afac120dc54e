"""Counts requests in this process's page of the scoreboard; `serving.native` has the same in C.

Rules: a request costs two accesses to memory, and one to the clock. Its duration begins with the turn of the loop that
found its head, so it includes waiting for others of the same turn, and ends when the last byte of its answer was given
to the connection. Threads count without a lock, since each step on a word is atomic under the interpreter's lock.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any

from forkserve.serving.counted import RequestCounter
from forkserve.serving.engine.limits import FOREVER, GRACE
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
_METHODS = {name: number for number, name in enumerate(METHODS) if number}


class PageCounter:
    """The counters of this process in a page of writable memory; `turn` is when the turn of the loop began."""

    __slots__ = ("_places", "_reals", "_words", "turn")

    def __init__(self, page: memoryview, turn: float) -> None:
        self.turn = turn
        whole = page.cast("B")[:PAGE]
        self._words = whole.cast("q")
        self._reals = whole.cast("d")
        used = min(max(self._words[_USED], 0), SERIES_MOST)
        keys = [self._words[SERIES_AT + number * SERIES] for number in range(used)]
        self._places = {key: SERIES_AT + number * SERIES for number, key in enumerate(keys) if key}

    def begin(self, exchange: Any) -> None:
        """Note that the head of a request was read; the exchange keeps the instant as `since`."""
        _rise(self._words, _BEGUN)
        exchange.since = self.turn

    def end(self, method: str, status: int, since: float) -> None:
        """Note that it was answered."""
        now = time.monotonic()
        seconds = max(now - since, 0.0)
        place = self._places.get(_METHODS.get(method, 0) * 1000 + status) or self._place(method, status)
        words, reals = self._words, self._reals
        _rise(words, place + 1 + bisect_left(BOUNDS, seconds))
        reals[place + 1 + BUCKETS] += seconds
        _rise(words, _ENDED)
        reals[_BEAT] = now

    def _place(self, method: str, status: int) -> int:
        """Return the place of a new series; the last one is for all that find no room."""
        words, key = self._words, _METHODS.get(method, 0) * 1000 + status
        used = min(max(words[_USED], 0), SERIES_MOST)
        number = min(used, SERIES_MOST - 1)
        place = self._places[key] = SERIES_AT + number * SERIES
        if number == used:
            words[place] = 0 if number == SERIES_MOST - 1 else key
            words[_USED] = number + 1
        return place

    def add(self, place: int) -> None:
        """Count one more of a `CounterField`."""
        _rise(self._words, place)

    def beat(self, now: float) -> None:
        """Record progress of the process, between two turns of its loop."""
        self._reals[_BEAT] = now

    def reconcile(self, running: int) -> None:
        """Set the number of requests in flight: some end without an answer, since their clients have left."""
        begun = self._words[_BEGUN]
        self._words[_ENDED] = begun - running if begun >= 0 else 0

    def close(self) -> None:
        """Stop counting: later counts go nowhere."""
        nowhere = memoryview(bytearray(PAGE))
        self._words, self._reals = nowhere.cast("q"), nowhere.cast("d")
        self._places = {}


def _rise(words: memoryview, place: int) -> None:
    """Add one; another process may have written too large a number here."""
    try:
        words[place] += 1
    except ValueError:
        words[place] = 0


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
