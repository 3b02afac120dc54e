"""Exchanges that are counted in memory that the master reads, for both interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from forkserve.serving.exchange import BaseExchange

__all__ = ["CountedAndNotedExchange", "CountedExchange", "RequestCounter", "with_counter"]


class RequestCounter(Protocol):
    """Counts requests: `forkserve.serving.engine.counting.PageCounter`, or the same in C."""

    turn: float
    """When the current turn of the loop began; set by the loop."""

    def begin(self, exchange: Any) -> None:
        """Note that the head of a request was read; the exchange keeps the instant as `since`."""

    def end(self, method: str, status: int, since: float) -> None:
        """Note that it was answered."""

    def add(self, place: int) -> None:
        """Count one more of a `CounterField`."""

    def beat(self, now: float) -> None:
        """Record progress of the process, between two turns of its loop."""

    def reconcile(self, running: int) -> None:
        """Set the number of requests in flight: some end without an answer, since their clients have left."""

    def close(self) -> None:
        """Stop counting: the page belongs to another process."""


class CountedExchange(BaseExchange):
    """An exchange whose answer is counted."""

    __slots__ = ()
    counter: ClassVar[RequestCounter]

    def note(self, status: int, size: int) -> None:
        """Count it; nothing else notes it, and to ask a base class in vain would cost as much as to count."""
        self.counter.end(self.line.method, status, self.since)


class CountedAndNotedExchange(CountedExchange):
    """An exchange whose answer is counted, and then noted by the next base, which logs it."""

    __slots__ = ()

    def note(self, status: int, size: int) -> None:
        """Count it, and pass it on."""
        self.counter.end(self.line.method, status, self.since)
        super(CountedExchange, self).note(status, size)


def with_counter(counter: RequestCounter, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of exchanges that also starts to count their requests."""
    begin = counter.begin

    def make_counted(conn: Any, line: Any, fields: Any) -> Any:
        exchange = make(conn, line, fields)
        begin(exchange)
        return exchange

    return make_counted
