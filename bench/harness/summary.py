"""From measurements to tables: medians over the rounds, ratios within rounds, errors added up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.harness.model import Better, Cell, Measurement, Metric, Status
from bench.harness.scenarios.base import Scenario
from bench.harness.servers import SERVERS
from bench.harness.stats import Stat, ratio_within_rounds, stat

__all__ = ["Row", "Table", "losses", "tables"]

LIMIT = "nginx"


@dataclass(frozen=True, slots=True)
class Row:
    """One server in one table. `ratio` is to the table's baseline, `of_limit` to nginx in the same rounds."""

    server: str
    role: str
    failed: bool
    stats: Mapping[str, Stat]
    ratio: Stat | None
    of_limit: Stat | None
    errors: Mapping[str, int]
    note: str
    command: str


@dataclass(frozen=True, slots=True)
class Table:
    """One variant of one scenario, best server first, failed ones last."""

    scenario: Scenario
    variant: str
    baseline: str
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


def _by_round(measurements: Iterable[Measurement], metric: str) -> dict[int, float]:
    return {m.round: m.values[metric] for m in measurements if m.status is Status.OK and metric in m.values}


def _row(mine: list[Measurement], metrics: Iterable[Metric], base: dict[int, float], limit: dict[int, float]) -> Row:
    server = mine[0].server
    stats = {metric.name: stat(list(found.values())) for metric in metrics if (found := _by_round(mine, metric.name))}
    headline = _by_round(mine, next(iter(metrics)).name)
    errors: Counter[str] = Counter()
    for measurement in mine:
        errors.update(measurement.errors)
    return Row(
        server=server,
        role=SERVERS[server].role if server in SERVERS else "field",
        failed=any(m.status is Status.FAILED for m in mine),
        stats=stats,
        ratio=ratio_within_rounds(headline, base),
        of_limit=ratio_within_rounds(headline, limit) if limit and server != LIMIT else None,
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
    by_server = {measurements[0].server: _by_round(measurements, metric) for measurements in found}
    baseline = scenario.baseline_of(variant)
    limit = by_server.get(LIMIT, {}) if metric == "rate" else {}
    rows = [_row(each, scenario.metrics, by_server.get(baseline, {}), limit) for each in found]

    def rank(row: Row) -> tuple[bool, float, str]:
        known = row.stats.get(metric)
        return known is None, sign * known.median if known else 0.0, row.server

    noise = [measurement.noise for measurements in found for measurement in measurements]
    return Table(scenario, variant, baseline, tuple(sorted(rows, key=rank)), sum(noise) / len(noise))


def losses(found: Iterable[Table]) -> list[tuple[Table, Row, Row]]:
    """List the tables in which a server of the field beats the best of ours: (table, ours, theirs)."""
    result = []
    for table in found:
        ours = next((row for row in table.rows if row.role == "ours" and table.headline.name in row.stats), None)
        theirs = next((row for row in table.rows if row.role == "field" and table.headline.name in row.stats), None)
        if ours and theirs and table.headline.better is not Better.NEITHER and _beats(table, theirs, ours):
            result.append((table, ours, theirs))
    return result


def _beats(table: Table, one: Row, other: Row) -> bool:
    """Say whether `one` is better in the headline, by the medians as they are printed."""
    metric = table.headline
    mine, its = (round(row.stats[metric.name].median, metric.digits) for row in (one, other))
    return mine > its if metric.better is Better.HIGHER else mine < its
