"""Collects families a few at a time, so that hundreds of processes delay no event."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forkserve.supervision.metrics.exposition import MetricFamily
from forkserve.supervision.os.loop import Loop

__all__ = ["collect"]

AT_A_TIME = 0.005
"""Seconds of collecting at a stretch."""


def collect(loop: Loop, steps: Iterator[MetricFamily | None], then: Callable[[list[MetricFamily]], None]) -> None:
    """Take the steps of `report.families`, with other events of the loop in between; then call `then` once."""
    _go_on(loop, steps, [], then)


def _go_on(
    loop: Loop,
    steps: Iterator[MetricFamily | None],
    done: list[MetricFamily],
    then: Callable[[list[MetricFamily]], None],
) -> None:
    enough = loop.now() + AT_A_TIME
    for step in steps:
        if step is not None:
            done.append(step)
        elif loop.now() > enough:
            loop.call_later(0.0, lambda: _go_on(loop, steps, done, then))
            return
    then(done)
