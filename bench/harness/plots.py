"""One bar chart per table, as SVG and PNG.

Ours in blue, the field in grey, the machine's limit hatched, spreads as whiskers.
"""

from __future__ import annotations

from pathlib import Path

from bench.harness.model import BenchError, Better
from bench.harness.summary import Row, Table

__all__ = ["check", "draw"]

COLOURS = {"ours": "#2f6fde", "field": "#9aa3ad", "limit": "#ffffff", "same": "#b9c7de"}


def check() -> None:
    """Raise BenchError where nothing could be drawn; to be asked before a run is made."""
    try:
        import matplotlib  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise BenchError(
            f"the report needs matplotlib: {error}; pip install -r bench/requirements.txt, or use bench/run.sh"
        ) from error


def draw(tables: list[Table], folder: Path) -> None:
    """Draw every table that has figures into `folder`."""
    import matplotlib  # type: ignore[import-not-found,unused-ignore]  # only in the bench environment

    matplotlib.use("Agg")
    # A fixed salt and no date: the same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "forkserve", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        rows = [row for row in table.rows if table.headline.name in row.stats]
        if rows:
            _draw(table, rows, folder)


def _draw(table: Table, rows: list[Row], folder: Path) -> None:
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    metric = table.headline
    stats = [row.stats[metric.name] for row in rows]
    values = [stat.median for stat in stats]
    spreads = [[stat.median - stat.low for stat in stats], [stat.high - stat.median for stat in stats]]
    whiskers = spreads if any(stat.count > 1 for stat in stats) else None
    figure, axes = pyplot.subplots(figsize=(7.2, 0.6 + 0.27 * len(rows)))
    bars = axes.barh([row.server for row in rows], values, xerr=whiskers, height=0.7, ecolor="#444", capsize=2)
    for bar, row in zip(bars, rows, strict=True):
        bar.set_facecolor(COLOURS[row.role])
        if row.role == "limit":
            bar.set_edgecolor("#666")
            bar.set_hatch("///")
    axes.bar_label(
        bars,
        [
            f" {value:,.{metric.digits}f}" + (" !" if row.errors else "")
            for value, row in zip(values, rows, strict=True)
        ],
    )
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    way = {Better.HIGHER: "more is better", Better.LOWER: "less is better", Better.NEITHER: ""}[metric.better]
    unit = f" {metric.unit}" if metric.unit else ""
    axes.set_title(f"{table.title}: {metric.label}{unit} ({way})", loc="left", fontsize=9)
    figure.savefig(folder / f"{table.key}.svg", bbox_inches="tight", metadata={"Date": None})
    figure.savefig(folder / f"{table.key}.png", bbox_inches="tight", dpi=110)
    pyplot.close(figure)
