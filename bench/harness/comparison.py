"""Two runs side by side.

What became better or worse since, by the ratios (they carry over) and by the figures (they may not).
"""

from __future__ import annotations

from bench.harness.document import Block, Grid, Heading, Text
from bench.harness.model import Better
from bench.harness.store import Results
from bench.harness.summary import Row, Table

__all__ = ["compare", "differences"]


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


def differences(now: Results, before: Results) -> list[str]:
    """List what else differs between two runs: the machine, its settings, the versions of those that take part."""
    machine = ("processor", "cores", "kernel", "python", "pins")
    pairs = [(key, before.machine.get(key, "?"), now.machine.get(key, "?")) for key in machine]
    pairs += [(key, before.settings.get(key, "?"), now.settings.get(key, "?")) for key in ("rounds", "duration")]
    old, new = before.machine.get("versions", {}), now.machine.get("versions", {})
    pairs += [(name, old.get(name, "none"), new.get(name, "none")) for name in sorted({*old, *new})]
    return [f"{key} {one} -> {other}" for key, one, other in pairs if one != other]


def compare(now: list[Table], before: list[Table], remark: str = "") -> list[Block]:
    """Return a section with one line for every server that both runs have; `remark` stands above them."""
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
    return [Heading("Since the other run"), *([Text(remark)] if remark else []), Grid(head, tuple(lines))]
