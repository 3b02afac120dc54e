"""What a watcher's processes have counted, summed up by generation, and checked before it is used.

Theory of operation. Each process counts in its page of the scoreboard (`unix.counters`). A reading of that page is
compared with what was accepted of the process before; the difference is added to the totals of its generation, so a
total never falls and survives the process. The last reading is taken when the process has been reaped.

Rules: pure, and plain data, so that all of it can be serialised (`supervision.state`). Nothing in a page is trusted:
a count that has fallen or has risen faster than any processor could count, or a sum of seconds that is impossible for
that many requests, leaves the series out of this reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from forkserve.unix.counters import BOUNDS, BUCKETS, PageReading, SeriesReading

__all__ = ["GenerationFigures", "GenerationTotals", "Histogram", "SeenCounters", "WatcherFigures", "series_name"]

MOST_A_SECOND = 1_000_000
"""Most requests that one process can answer in a second."""
SLACK = 1_000
"""Requests by which a reading may exceed that, since the reading itself takes time."""
KEPT = 3
"""Generations that are kept apart; the totals of older ones are merged."""


@dataclass(slots=True)
class Histogram:
    """Durations: how many in each bucket of `BOUNDS`, and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts)

    def add(self, counts: Iterable[int], seconds: float) -> None:
        """Add others."""
        self.counts = [mine + more for mine, more in zip(self.counts, counts, strict=True)]
        self.seconds += seconds


@dataclass(slots=True, kw_only=True)
class SeenCounters:
    """What was accepted of one process, up to an instant."""

    at: float
    shed: int = 0
    refused: int = 0
    series: dict[str, Histogram] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class GenerationTotals:
    """Counts of all processes of one generation: `requests` by `series_name`; `crashes` are unrequested ends."""

    requests: dict[str, Histogram] = field(default_factory=dict)
    shed: int = 0
    refused: int = 0
    crashes: int = 0

    def add(self, other: GenerationTotals) -> None:
        """Add those of another generation."""
        for name, histogram in other.requests.items():
            self.requests.setdefault(name, Histogram()).add(histogram.counts, histogram.seconds)
        self.shed += other.shed
        self.refused += other.refused
        self.crashes += other.crashes


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationFigures:
    """One generation at one instant, or between two: the data of a decision about it.

    `errors` are answers of 500 and more, `latency` counts by bucket of `BOUNDS`, `memory` is in bytes for each process.
    """

    generation: int
    at: float
    processes: int = 0
    requests: int = 0
    errors: int = 0
    crashes: int = 0
    latency: tuple[int, ...] = (0,) * BUCKETS
    seconds: float = 0.0
    memory: int = 0

    def since(self, earlier: GenerationFigures) -> GenerationFigures:
        """Return what has been counted since an earlier view; processes and memory are the current ones."""
        return GenerationFigures(
            generation=self.generation,
            at=self.at,
            processes=self.processes,
            requests=self.requests - earlier.requests,
            errors=self.errors - earlier.errors,
            crashes=self.crashes - earlier.crashes,
            latency=tuple(now - then for now, then in zip(self.latency, earlier.latency, strict=True)),
            seconds=self.seconds - earlier.seconds,
            memory=self.memory,
        )

    @property
    def error_share(self) -> float:
        """The share of requests that were answered by 500 and more; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    def quantile(self, part: float) -> float:
        """Return the seconds within which this share of requests was answered: the bound of a bucket, inf, or 0."""
        wanted, reached = part * sum(self.latency), 0
        for bound, count in zip((*BOUNDS, float("inf")), self.latency, strict=True):
            reached += count
            if reached >= wanted:
                return bound if reached else 0.0
        return float("inf")


@dataclass(slots=True, kw_only=True)
class WatcherFigures:
    """All totals of one watcher, and what has been read of its living processes, by their numbers.

    `restarts`, `deploys` and `scalings` count by reason, by result and by direction; `ignored` counts implausible
    readings.
    """

    generations: dict[int, GenerationTotals] = field(default_factory=dict)
    older: GenerationTotals = field(default_factory=GenerationTotals)
    seen: dict[int, SeenCounters] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    deploys: dict[str, int] = field(default_factory=dict)
    scalings: dict[str, int] = field(default_factory=dict)
    ignored: int = 0

    def take(self, number: int, generation: int, reading: PageReading, *, begun: float, now: float) -> None:
        """Add a reading of the process with this number, which started at `began`."""
        seen = self.seen.get(number)
        if seen is None:
            seen = self.seen[number] = SeenCounters(at=begun)
        totals = self.totals(generation)
        most = int(max(now - seen.at, 0.0) * MOST_A_SECOND) + SLACK
        for (method, status), series in reading.series.items():
            name = series_name(method, status)
            before = seen.series.get(name) or Histogram()
            if not _is_plausible(before, series, most=most, longest=now - begun):
                self.ignored += 1
                continue
            more = [new - old for new, old in zip(series.counts, before.counts, strict=True)]
            totals.requests.setdefault(name, Histogram()).add(more, series.seconds - before.seconds)
            seen.series[name] = Histogram(list(series.counts), series.seconds)
        if 0 <= reading.shed - seen.shed <= most:
            totals.shed += reading.shed - seen.shed
            seen.shed = reading.shed
        if 0 <= reading.refused - seen.refused <= most:
            totals.refused += reading.refused - seen.refused
            seen.refused = reading.refused
        seen.at = now

    def forget(self, number: int) -> None:
        """Forget the readings of a process that has ended; the totals keep them."""
        self.seen.pop(number, None)

    def totals(self, generation: int) -> GenerationTotals:
        """Return the totals of a generation; the oldest ones are merged when there are too many."""
        found = self.generations.get(generation)
        if found is None:
            found = self.generations[generation] = GenerationTotals()
            for old in sorted(self.generations)[:-KEPT]:
                if old != generation:
                    self.older.add(self.generations.pop(old))
        return found

    def all(self) -> GenerationTotals:
        """Return the sum of all generations."""
        total = GenerationTotals()
        for each in (self.older, *self.generations.values()):
            total.add(each)
        return total

    def of(self, generation: int, *, now: float, processes: int = 0, memory: int = 0) -> GenerationFigures:
        """Return the figures of one generation; the caller supplies its number of processes and their memory."""
        totals = self.generations.get(generation) or GenerationTotals()
        whole = Histogram()
        for each in totals.requests.values():
            whole.add(each.counts, each.seconds)
        errors = sum(each.total for name, each in totals.requests.items() if _status(name) >= 500)
        return GenerationFigures(
            generation=generation,
            at=now,
            processes=processes,
            requests=whole.total,
            errors=errors,
            crashes=totals.crashes,
            latency=tuple(whole.counts),
            seconds=whole.seconds,
            memory=memory,
        )

    def count_restart(self, reason: str) -> None:
        """Count a process that was lost or replaced."""
        self.restarts[reason] = self.restarts.get(reason, 0) + 1

    @property
    def shed(self) -> int:
        """Connections that were refused because they had waited too long."""
        return self.older.shed + sum(each.shed for each in self.generations.values())

    def count_scaling(self, direction: str) -> None:
        """Count a change of the number of processes that was caused by load."""
        self.scalings[direction] = self.scalings.get(direction, 0) + 1

    def count_deploy(self, result: str) -> None:
        """Count a reload that has ended."""
        self.deploys[result] = self.deploys.get(result, 0) + 1


def series_name(method: str, status: int) -> str:
    """Return the key of a series for JSON: `GET 200`."""
    return f"{method} {status}"


def _status(name: str) -> int:
    return int(name.rpartition(" ")[2])


def _is_plausible(before: Histogram, series: SeriesReading, *, most: int, longest: float) -> bool:
    """Tell whether a process can have counted this since the last reading."""
    more = sum(series.counts) - before.total
    rises = all(new >= old for new, old in zip(series.counts, before.counts, strict=True))
    return rises and more <= most and 0.0 <= series.seconds - before.seconds <= more * max(longest, 0.0) + 1.0
