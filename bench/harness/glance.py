"""All races of a run on one page: the best forkserve backend against Gunicorn's best and against the field's. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.harness.model import Better
from bench.harness.scenarios.base import Scenario
from bench.harness.stats import ratio_within_rounds
from bench.harness.summary import Row, Table, best

__all__ = ["Duel", "Line", "lines"]


@dataclass(frozen=True, slots=True)
class Duel:
    """How many times better ours is than theirs in one table's headline: above 1 forkserve leads, below 1 it loses."""

    table: Table
    theirs: Row
    lead: float


@dataclass(frozen=True, slots=True)
class Line:
    """The duels of one scenario, the least favourable first; either may be missing."""

    scenario: Scenario
    gunicorn: tuple[Duel, ...]
    field: tuple[Duel, ...]


def lines(found: Iterable[Table]) -> list[Line]:
    """Sum up the tables by scenario. Servers compared with themselves run no race."""
    scenarios: dict[str, list[Table]] = {}
    for table in found:
        if table.divides and not table.scenario.versus:
            scenarios.setdefault(table.scenario.name, []).append(table)
    result = [Line(group[0].scenario, _duels(group, "gunicorn"), _duels(group, "")) for group in scenarios.values()]
    return [line for line in result if line.field]


def _duels(group: list[Table], rival: str) -> tuple[Duel, ...]:
    duels = [duel for table in group if (duel := _duel(table, rival))]
    return tuple(sorted(duels, key=lambda duel: duel.lead))


def _duel(table: Table, rival: str) -> Duel | None:
    metric = table.headline
    ours, theirs = best(table, metric, "ours"), best(table, metric, "field", only=rival)
    if not ours or not theirs:
        return None
    one, other = (ours, theirs) if metric.better is Better.HIGHER else (theirs, ours)
    ratio = ratio_within_rounds(one.by_round, other.by_round)
    return Duel(table, theirs, ratio.median) if ratio else None
