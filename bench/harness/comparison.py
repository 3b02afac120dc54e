"""Two runs side by side.

What became better or worse since, by the ratios (they carry over) and by the figures (they may not).
"""

from __future__ import annotations

from bench.harness.document import Block, Grid, Heading, Text
from bench.harness.model import Better
from bench.harness.summary import Row, Table

__all__ = ["compare"]


def _change(now: Row, before: Row, table: Table) -> tuple[str, ...] | None:
    metric = table.headline
    new, old = now.stats.get(metric.name), before.stats.get(metric.name)
    if not new or not old:
        return None
    by_ratio = "-"
    if now.ratio and before.ratio and before.ratio.median:
        by_ratio = f"{now.ratio.median / before.ratio.median - 1:+.0%}"
    change = f"{new.median / old.median - 1:+.0%}" if old.median else "-"
    overlap = new.low <= old.high and old.low <= new.high
    better = (new.median > old.median) == (metric.better is Better.HIGHER)
    verdict = "same within the spread" if overlap else ("better" if better else "worse")
    figures = (f"{old.median:,.{metric.digits}f}", f"{new.median:,.{metric.digits}f}", change, by_ratio, verdict)
    return (table.title, now.server, *figures)


def compare(now: list[Table], before: list[Table]) -> list[Block]:
    """Return a section with one line for every server that both runs have."""
    old = {(table.key, row.server): row for table in before for row in table.rows}
    pairs = [
        (row, old[table.key, row.server], table)
        for table in now
        for row in table.rows
        if (table.key, row.server) in old
    ]
    lines = [line for pair in pairs if (line := _change(*pair))]
    if not lines:
        return [Heading("Since the other run"), Text("The two runs have nothing in common.")]
    head = ("table", "server", "before", "now", "change", "change of the ratio to the baseline", "verdict")
    return [Heading("Since the other run"), Grid(head, tuple(lines))]
