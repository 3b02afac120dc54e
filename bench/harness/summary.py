"""From measurements to tables: medians over the rounds, ratios within rounds, errors added up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.harness.model import Better, Cell, Measurement, Metric, Status
from bench.harness.scenarios.base import Scenario
from bench.harness.servers import SERVERS
from bench.harness.stats import Stat, ratio_within_rounds, stat

__all__ = ["Loss", "Row", "Table", "best", "losses", "tables"]

LIMIT, CPU = "nginx", "cpu_us"
# Beside a rate the median says the same thing again.
DETAILS = ("p50_ms",)


@dataclass(frozen=True, slots=True)
class Row:
    """One server in one table.

    `by_round` is the headline, round by round. `ratio` is to the table's baseline and `of_limit` to nginx, in the same
    rounds; `by_cpu` is the baseline's CPU time per request divided by this server's.
    """

    server: str
    role: str
    failed: bool
    by_round: Mapping[int, float]
    stats: Mapping[str, Stat]
    ratio: Stat | None
    of_limit: Stat | None
    by_cpu: Stat | None
    errors: Mapping[str, int]
    note: str
    command: str


@dataclass(frozen=True, slots=True)
class Table:
    """One variant of one scenario, best server first, failed ones last. `base` says what the ratios are of."""

    scenario: Scenario
    variant: str
    base: str
    rows: tuple[Row, ...]
    noise: float

    @property
    def title(self) -> str:
        """The scenario's title with the variant."""
        return f"{self.scenario.title}: {self.variant}" if self.variant else self.scenario.title

    @property
    def key(self) -> str:
        """A name for files and anchors."""
        text = f"{self.scenario.name} {self.variant}".strip().lower()
        return "-".join("".join(c if c.isalnum() else " " for c in text).split())

    @property
    def headline(self) -> Metric:
        """The metric that ranks."""
        return self.scenario.metrics[0]

    @property
    def divides(self) -> bool:
        """Whether ratios of the headline say something: not those of counts, most of which are 0."""
        return bool(self.headline.unit) and self.scenario.divides


def _by_round(measurements: Iterable[Measurement], metric: str) -> dict[int, float]:
    return {m.round: m.values[metric] for m in measurements if m.status is Status.OK and metric in m.values}


def _row(
    mine: list[Measurement], metrics: tuple[Metric, ...], base: list[Measurement], limit: list[Measurement]
) -> Row:
    server, metric = mine[0].server, metrics[0].name
    stats = {metric.name: stat(list(found.values())) for metric in metrics if (found := _by_round(mine, metric.name))}
    headline = _by_round(mine, metric)
    errors: Counter[str] = Counter()
    for measurement in mine:
        errors.update(measurement.errors)
    return Row(
        server=server,
        role=SERVERS[server].role if server in SERVERS else "field",
        failed=any(m.status is Status.FAILED for m in mine),
        by_round=headline,
        stats=stats,
        ratio=ratio_within_rounds(headline, _by_round(base, metric)),
        of_limit=ratio_within_rounds(headline, _by_round(limit, metric)) if server != LIMIT else None,
        by_cpu=ratio_within_rounds(_by_round(base, CPU), _by_round(mine, CPU)),
        errors=dict(errors),
        note="; ".join(dict.fromkeys(m.note for m in mine if m.note)),
        command=next((m.command for m in mine if m.command), ""),
    )


def _order(metric: Metric) -> tuple[str, int]:
    return metric.name, -1 if metric.better is Better.HIGHER else 1


def tables(measurements: Iterable[Measurement], scenarios: Mapping[str, Scenario]) -> list[Table]:
    """Group by scenario and variant, in the order of the scenarios."""
    cells: dict[Cell, list[Measurement]] = {}
    for measurement in measurements:
        cells.setdefault(measurement.cell, []).append(measurement)
    groups: dict[tuple[str, str], list[list[Measurement]]] = {}
    for cell, found in cells.items():
        groups.setdefault((cell.scenario, cell.variant), []).append(found)
    return [
        _table(scenarios[name], variant, found)
        for name in scenarios
        for (group, variant), found in groups.items()
        if group == name
    ]


def _table(scenario: Scenario, variant: str, found: list[list[Measurement]]) -> Table:
    metric, sign = _order(scenario.metrics[0])
    by_server = {measurements[0].server: measurements for measurements in found}
    limit = by_server.get(LIMIT, []) if metric == "rate" else []
    rows = [
        _row(mine, scenario.metrics, by_server.get(scenario.base_of(variant, server), []), limit)
        for server, mine in by_server.items()
    ]

    def rank(row: Row) -> tuple[bool, float, str]:
        known = row.stats.get(metric)
        return known is None, sign * known.median if known else 0.0, row.server

    noise = [measurement.noise for measurements in found for measurement in measurements]
    return Table(
        scenario, variant, scenario.base_label(variant), tuple(sorted(rows, key=rank)), sum(noise) / len(noise)
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """A figure in which the field's best beats our best, by more than the spread of both."""

    table: Table
    metric: Metric
    ours: Row
    theirs: Row


def losses(found: Iterable[Table]) -> list[Loss]:
    """List where the field beats us, figure by figure. Servers compared with themselves run no race."""
    return [
        Loss(table, metric, ours, theirs)
        for table in found
        if not table.scenario.versus
        for metric in table.scenario.metrics
        if metric.better is not Better.NEITHER and not (table.headline.name == "rate" and metric.name in DETAILS)
        for ours in [best(table, metric, "ours")]
        for theirs in [best(table, metric, "field")]
        if ours and theirs and _beats(metric, theirs.stats[metric.name], ours.stats[metric.name])
    ]


def best(table: Table, metric: Metric, role: str, *, only: str = "") -> Row | None:
    """Return the best row of that role, None where there is none; `only` is how its name begins."""
    sign = -1 if metric.better is Better.HIGHER else 1
    rows = [
        row
        for row in table.rows
        if row.role == role and row.server.startswith(only) and not row.failed and metric.name in row.stats
    ]
    return min(rows, key=lambda row: sign * row.stats[metric.name].median, default=None)


def _beats(metric: Metric, one: Stat, other: Stat) -> bool:
    """Say whether `one` is better, as printed and beyond the spread of the two."""
    if metric.better is Better.HIGHER:
        return round(one.median, metric.digits) > round(other.median, metric.digits) and one.low >= other.high
    return round(one.median, metric.digits) < round(other.median, metric.digits) and one.high <= other.low
