"""Exchanges that are counted in the memory that the master reads, of either interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from forkserve.serving.exchange import BaseExchange

__all__ = ["CountedExchange", "RequestCounter", "counting"]


class RequestCounter(Protocol):
    """What counts requests: `forkserve.serving.engine.counting.PageCounter`, or the same in C."""

    turn: float
    """When the present turn of the loop began; set by the loop."""

    def begin(self, exchange: Any) -> None:
        """Note that the head of a request was read; the exchange keeps the instant as `since`."""

    def end(self, method: str, status: int, since: float) -> None:
        """Note that it was answered."""

    def add(self, place: int) -> None:
        """Count one more of a `CounterField`."""

    def beat(self, now: float) -> None:
        """Note that the process goes on, between two turns of its loop."""

    def settle(self, running: int) -> None:
        """Note how many requests run: some end without an answer, since their clients have gone."""

    def close(self) -> None:
        """Count no more: the page is another process's."""


class CountedExchange(BaseExchange):
    """An exchange whose answer is counted, before it is logged."""

    __slots__ = ()
    counter: ClassVar[RequestCounter]

    def note(self, status: int, size: int) -> None:
        """Count it."""
        self.counter.end(self.line.method, status, self.since)
        super().note(status, size)


def counting(counter: RequestCounter, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes exchanges as `make` does, and has their requests begin to count."""
    begin = counter.begin

    def make_counted(conn: Any, line: Any, fields: Any) -> Any:
        exchange = make(conn, line, fields)
        begin(exchange)
        return exchange

    return make_counted
