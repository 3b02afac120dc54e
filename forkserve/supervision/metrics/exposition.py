"""Metrics as text: OpenMetrics 1.0, and the older text format 0.0.4 of Prometheus.

Rules: pure. A family is written once, with all its samples; labels are escaped as both formats require.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from forkserve.supervision.figures import Histogram
from forkserve.unix.counters import BOUNDS

__all__ = ["OPENMETRICS", "PROMETHEUS", "FamilyKind", "MetricFamily", "histogram_samples", "openmetrics", "prometheus"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""The media types."""

_UNITS = ("seconds", "bytes", "ratio")

Labels = Mapping[str, str]


class FamilyKind(Enum):
    """The kind of a family; the value is the word of both formats."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True)
class MetricFamily:
    """One metric. `samples` are labels and value, for a histogram preceded by the suffix: see `histogram_samples`.

    The name of a counter lacks `_total`.
    """

    name: str
    kind: FamilyKind
    help: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", /, **labels: str) -> MetricFamily:
        """Add a sample; returns the family."""
        self.samples.append((suffix or ("_total" if self.kind is FamilyKind.COUNTER else ""), labels, value))
        return self


def histogram_samples(family: MetricFamily, histogram: Histogram, **labels: str) -> None:
    """Add the samples of one histogram of durations to a family."""
    reached = 0
    for bound, count in zip((*BOUNDS, math.inf), histogram.counts, strict=True):
        reached += count
        family.add(reached, "_bucket", **labels, le=_number(bound))
    family.add(reached, "_count", **labels)
    family.add(histogram.seconds, "_sum", **labels)


def openmetrics(families: Iterable[MetricFamily]) -> bytes:
    """Return the text in OpenMetrics 1.0."""
    lines: list[str] = []
    for family in families:
        lines += _lines(family, family.name, unit=_unit_of(family.name))
    return "\n".join([*lines, "# EOF", ""]).encode()


def prometheus(families: Iterable[MetricFamily]) -> bytes:
    """Return the text in Prometheus's format 0.0.4."""
    lines: list[str] = []
    for family in families:
        name = family.name + ("_total" if family.kind is FamilyKind.COUNTER else "")
        lines += _lines(family, name)
    return "\n".join([*lines, ""]).encode()


def _unit_of(name: str) -> str:
    """Return the base unit that a name ends with, as OpenMetrics wants it, "" for none."""
    last = name.rpartition("_")[2]
    return last if last in _UNITS else ""


def _lines(family: MetricFamily, name: str, *, unit: str = "") -> Iterator[str]:
    yield f"# HELP {name} {_escaped(family.help)}"
    yield f"# TYPE {name} {family.kind.value}"
    if unit:
        yield f"# UNIT {name} {unit}"
    for suffix, labels, value in family.samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{family.name}{suffix}{'{' + inside + '}' if inside else ''} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if isinstance(value, int) else repr(float(value))
