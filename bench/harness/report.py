"""Write everything that a run leaves behind.

Plots, report.md, report.html; and, on request, the page of the documentation.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.harness import markdown, page, plots
from bench.harness.comparison import compare, differences
from bench.harness.document import Block, Grid, compose, grid_of
from bench.harness.scenarios import SCENARIOS
from bench.harness.store import Results
from bench.harness.summary import Table, tables

__all__ = ["terminal", "write", "write_docs"]

DOCS = Path(__file__).parents[2] / "docs"


def write(results: Results, folder: Path, other: Results | None = None) -> list[Table]:
    """Write the report into `folder` and return its tables."""
    found = tables(results.measurements, SCENARIOS)
    comparison: list[Block] = _since(results, found, other) if other else []
    plots.draw(found, folder / "plots")
    blocks = compose(results, found, comparison)
    (folder / "report.md").write_text(markdown.render(blocks, "plots"))
    (folder / "report.html").write_text(page.render(blocks, folder / "plots"))
    return found


def _since(results: Results, found: list[Table], other: Results) -> list[Block]:
    changed = "; ".join(differences(results, other)) or "nothing"
    remark = f"The other run is of {other.started or 'an unknown time'}. Besides, {changed} changed."
    return compare(found, tables(other.measurements, SCENARIOS), remark)


def write_docs(results: Results, folder: Path) -> Path:
    """Write docs/benchmarks.md and its plots from a report that `write` has made in `folder`; return its path."""
    found = tables(results.measurements, SCENARIOS)
    target = DOCS / "benchmarks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for table in found:
        source = folder / "plots" / f"{table.key}.svg"
        if source.exists():
            shutil.copy(source, target)
    file = DOCS / "benchmarks.md"
    file.write_text(markdown.render(compose(results, found, []), "benchmarks"))
    return file


def terminal(found: list[Table], width: int = 0) -> str:
    """Write the tables for a terminal, columns aligned; with a width, the last columns but `errors` give way to it."""
    return "\n".join(f"\n== {table.title}\n{_aligned(grid_of(table), width)}" for table in found)


def _aligned(grid: Grid, width: int) -> str:
    lines = [grid.head, *grid.rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(grid.head))]
    shown = list(range(len(widths)))
    while width and len(shown) > 2 and sum(widths[at] + 2 for at in shown) - 2 > width:
        del shown[-2]
    text = [
        "  ".join(line[at].ljust(widths[at]) if at == 0 else line[at].rjust(widths[at]) for at in shown).rstrip()
        for line in lines
    ]
    return "\n".join(text)
