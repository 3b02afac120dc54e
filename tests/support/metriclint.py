"""What promtool checks of a page of metrics, and what the formats ask for: `faults(text)` names each breach.

The rules are those of Prometheus's naming practices and of the exposition formats (text 0.0.4 and OpenMetrics 1.0).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator

__all__ = ["faults"]

NAME = re.compile(r"[a-z_][a-z0-9_]*")
SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,|$)')
KINDS = ("counter", "gauge", "histogram", "summary", "untyped", "unknown", "info", "stateset")
PARTS = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum", "")}
OTHER_UNITS = {
    *("ms", "milliseconds", "us", "microseconds", "ns", "nanoseconds", "sec", "s", "minutes", "hours", "days"),
    *("kb", "kilobytes", "kib", "mb", "megabytes", "mib", "gb", "gigabytes", "gib", "bits", "percent", "celsius"),
}
"""Units and abbreviations for which a base unit stands: seconds, bytes, a ratio."""

Series = tuple[str, tuple[tuple[str, str], ...]]


class _Page:
    """What was read so far. A family is what a TYPE line names."""

    def __init__(self, *, is_openmetrics: bool) -> None:
        self.is_openmetrics = is_openmetrics
        self.kinds: dict[str, str] = {}
        self.helped: set[str] = set()
        self.values: dict[Series, float] = {}
        self.over: set[str] = set()
        """Families after which another one has begun."""
        self.current = ""

    def family_of(self, name: str) -> str:
        """Return the family of a sample's name; the name itself where nothing declares it."""
        if name in self.kinds:
            return name
        for family, kind in self.kinds.items():
            endings = PARTS.get(kind, ("_total", "_created") if kind == "counter" else ())
            if name in {family + ending for ending in endings}:
                return family
        return name

    def enter(self, family: str) -> Iterator[str]:
        if family != self.current:
            self.over.add(self.current)
            if family in self.over:
                yield f"{family}: its lines do not stand together"
            self.current = family


def faults(text: str) -> list[str]:
    """Return a line for each breach of a rule; none for a page that is as it should be."""
    lines = text.split("\n")
    page = _Page(is_openmetrics=lines[-2:] == ["# EOF", ""])
    found = [] if lines[-1] == "" else ["the last line has no end"]
    for line in lines[:-2] if page.is_openmetrics else lines[:-1]:
        reader = _declaration if line.startswith("# ") else _sample
        found += reader(page, line)
    return [*found, *_naming(page), *_histograms(page)]


def _declaration(page: _Page, line: str) -> Iterator[str]:
    _, word, name, *rest = [*line.split(" ", 3), ""][:4]
    yield from page.enter(name)
    known = page.helped if word == "HELP" else page.kinds
    if word == "UNIT" and page.is_openmetrics:
        if name not in page.kinds or not name.endswith(f"_{rest[0]}"):
            yield f"{name}: its name does not end with its unit {rest[0]!r}, or it has no TYPE"
    elif word not in ("HELP", "TYPE"):
        yield f"{line!r}: neither HELP nor TYPE"
    elif name in known:
        yield f"{name}: a second {word}"
    elif any(page.family_of(each) == name for each, _ in page.values):
        yield f"{name}: {word} after its samples"
    elif word == "HELP":
        page.helped.add(name)
        if not rest[0].strip():
            yield f"{name}: no help text"
    else:
        page.kinds[name] = rest[0]
        if rest[0] not in KINDS:
            yield f"{name}: unknown type {rest[0]!r}"


def _sample(page: _Page, line: str) -> Iterator[str]:
    match = SAMPLE.fullmatch(line)
    if match is None:
        yield f"{line!r}: no sample"
        return
    name, inside, value = match[1], match[2] or "", match[3]
    labels = LABEL.findall(inside)
    if LABEL.sub("", inside):
        yield f"{line!r}: its labels cannot be read"
    if len({label for label, _ in labels}) < len(labels):
        yield f"{line!r}: a label stands twice"
    family = page.family_of(name)
    yield from page.enter(family)
    series = name, tuple(sorted(labels))
    if series in page.values:
        yield f"{line!r}: the series stands twice"
    try:
        page.values[series] = float(value)
    except ValueError:
        yield f"{line!r}: {value!r} is no number"
    if family not in page.kinds or family not in page.helped:
        yield f"{name}: no HELP or no TYPE"
    kind = page.kinds.get(family, "")
    if kind == "counter" and not page.values.get(series, 0.0) >= 0:
        yield f"{line!r}: a counter below zero"
    yield from _labels(name, kind, [label for label, _ in labels])


def _labels(name: str, kind: str, labels: list[str]) -> Iterator[str]:
    for label in labels:
        if NAME.fullmatch(label) is None or label.startswith("__"):
            yield f"{name}: label {label!r} is not in lower case with underscores"
        if (label, kind) in (("le", "gauge"), ("le", "counter"), ("quantile", "gauge"), ("quantile", "counter")):
            yield f"{name}: label {label!r} is for histograms and summaries"


def _naming(page: _Page) -> Iterator[str]:
    for name, kind in page.kinds.items():
        words = name.split("_")
        if NAME.fullmatch(name) is None:
            yield f"{name}: not in lower case with underscores"
        if kind == "counter" and name.endswith("_total") == page.is_openmetrics:
            yield f"{name}: the samples of a counter end in _total, its name does so in Prometheus's format alone"
        if kind != "counter" and name.endswith("_total"):
            yield f"{name}: _total is for counters"
        if kind not in PARTS and name.endswith(("_bucket", "_count", "_sum")):
            yield f"{name}: _bucket, _count and _sum are for histograms and summaries"
        if OTHER_UNITS & set(words):
            yield f"{name}: seconds, bytes and ratios are the units"
        if kind in words:
            yield f"{name}: the name says its type"


def _histograms(page: _Page) -> Iterator[str]:
    buckets: dict[Series, list[tuple[float, float]]] = defaultdict(list)
    for (name, labels), value in page.values.items():
        if page.kinds.get(name.removesuffix("_bucket")) == "histogram" and name.endswith("_bucket"):
            others = tuple(each for each in labels if each[0] != "le")
            buckets[name.removesuffix("_bucket"), others].append((float(dict(labels).get("le", "nan")), value))
    for (name, labels), reached in buckets.items():
        bounds, counts = zip(*reached, strict=True)
        if list(bounds) != sorted(bounds) or bounds[-1] != math.inf:
            yield f"{name}: its bounds do not go up to +Inf"
        if list(counts) != sorted(counts):
            yield f"{name}: its buckets do not add up"
        if page.values.get((f"{name}_count", labels)) != counts[-1]:
            yield f"{name}: _count is not what the last bucket has"
        if (f"{name}_sum", labels) not in page.values:
            yield f"{name}: no _sum"
