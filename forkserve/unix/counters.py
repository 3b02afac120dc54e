"""The counters of one process: a page of the scoreboard's memory that the process writes and the master reads.

Theory of operation. After the records the memory has one page for each of them. Its first words are counts and instants
of the process as a whole; then come the *series*, one for each method and status that has been answered: a key, the
counts of a histogram, the sum of its seconds. A word has one writer, is eight aligned bytes and is stored whole, so
there are no locks. Words that count only rise, until the master clears the page for its next owner.

Every process that has the memory can write all of it. So `read_page` checks what it finds, and the difference between
two readings is checked in `supervision.figures`.

The layout is documented in docs/scoreboard.md. Bounds and labels are those of OpenTelemetry's semantic conventions for
HTTP (`http.server.request.duration`).
"""

from __future__ import annotations

import math
import signal
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

__all__ = [
    "BOUNDS",
    "BUCKETS",
    "METHODS",
    "PAGE",
    "SERIES",
    "SERIES_AT",
    "SERIES_MOST",
    "STACKS_END",
    "STACKS_NAME",
    "STACKS_SIGNAL",
    "CounterField",
    "PageReading",
    "SeriesKey",
    "SeriesReading",
    "read_page",
]

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of the histogram in seconds; one more bucket is for anything longer."""
BUCKETS = len(BOUNDS) + 1
METHODS = ("_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
"""Method labels; clients can make up as many others as they like."""

PAGE = 8192
"""Bytes of a page."""
SERIES_AT = 16
"""Words before the first series."""
SERIES = BUCKETS + 2
"""Words of a series: its key, method * 1000 + status, the counts by bucket, and the sum of the seconds, a double."""
SERIES_MOST = (PAGE // 8 - SERIES_AT) // SERIES
"""Series of a page. Any further one is counted as `_OTHER`, status 0, in the last."""

_SERIES = struct.Struct(f"={1 + BUCKETS}qd")

STACKS_SIGNAL = signal.SIGRTMIN + 6
"""The signal on which a process with a descriptor in STACKS writes its stacks there."""
STACKS_NAME = "forkserve-stacks"
"""The name of that memory."""
STACKS_END = "\nend of stacks\n"
"""The end marker of the stacks."""


class CounterField(IntEnum):
    """The layout of a page, in words. BEAT and PATIENCE are doubles, the others int64."""

    BEGUN = 0
    """Requests whose head has been read."""
    ENDED = 1
    """Those that have ended; the difference is in flight."""
    SERIES_USED = 2
    BEAT = 3
    """The last instant at which the process made progress: a turn of its loop, an answer (CLOCK_MONOTONIC)."""
    PATIENCE = 4
    """Seconds without a beat, although the bell was rung, after which the process counts as stuck; 0 for never."""
    STACKS = 5
    """One more than the descriptor of the memory into which the process writes its stacks; 0 if there is none."""
    CAPACITY = 6
    """Requests that it can run at once; 0 for no limit, as with greenlets and tasks."""
    SHED = 7
    """Connections that were refused because they had waited in the queue for too long."""
    REFUSED = 8
    """Requests that the server itself rejected: invalid, too large, too late."""


SeriesKey = tuple[str, int]
"""Method and status."""


@dataclass(frozen=True, slots=True)
class SeriesReading:
    """One histogram: `counts` by bucket, `seconds` is the sum."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PageReading:
    """A page as it was at one instant; every number is finite and not negative, but may still be wrong."""

    begun: int = 0
    ended: int = 0
    beat: float = 0.0
    patience: float = 0.0
    stacks: int = -1
    capacity: int = 0
    shed: int = 0
    refused: int = 0
    series: Mapping[SeriesKey, SeriesReading] = field(default_factory=dict)


_HEAD = struct.Struct("=qqqddqqqq")


def read_page(memory: bytes | memoryview) -> PageReading:
    """Return the content of a page of at least `PAGE` bytes; impossible values are read as zero, or skipped."""
    begun, ended, used, beat, patience, stacks, capacity, shed, refused = _HEAD.unpack_from(memory)
    series: dict[SeriesKey, SeriesReading] = {}
    for number in range(min(max(used, 0), SERIES_MOST)):
        key, *counts, seconds = _SERIES.unpack_from(memory, (SERIES_AT + number * SERIES) * 8)
        method, status = divmod(key, 1000)
        if 0 <= method < len(METHODS) and (status >= 100 or key == 0):
            series.setdefault((METHODS[method], status), SeriesReading(tuple(map(_count, counts)), _seconds(seconds)))
    return PageReading(
        begun=_count(begun),
        ended=_count(ended),
        beat=_seconds(beat),
        patience=_seconds(patience),
        stacks=stacks - 1 if 0 < stacks < 1 << 20 else -1,
        capacity=_count(capacity),
        shed=_count(shed),
        refused=_count(refused),
        series=series,
    )


def _count(value: int) -> int:
    return max(value, 0)


def _seconds(value: float) -> float:
    return value if math.isfinite(value) and value > 0.0 else 0.0
