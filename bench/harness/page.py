"""Write a report as one HTML file that needs no other: the plots are inside."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from bench.harness.document import Block, Code, Figure, Grid, Heading, Items, Text

__all__ = ["render"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 88rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21;
background: #fff } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display:
block; overflow-x: auto } th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right;
white-space: nowrap } th:first-child, td:first-child { text-align: left } table.wordy td:first-child, table.wordy
td:last-child { white-space: normal; min-width: 9rem } tr.ours td { font-weight: 600; background:
#eef5ff } td.bad { color: #b00020; white-space: normal } pre { background: #f5f5f5; padding: 1rem; overflow-x: auto;
font-size: 12px } svg { max-width: 100%; height: auto } @media (prefers-color-scheme: dark) { body { background:
#16181c; color: #e4e6eb } th, td { border-color: #333 } tr.ours td { background: #1d2b40 } pre { background: #22252a }
svg { background: #fff } td.bad { color: #ff7b8a } a { color: #7fb0ff } } details ul { list-style: none; padding: 0;
columns: 20rem } details li.level2 { font-weight: 600 } details li.level3 { padding-left: 1rem }
"""


def _inline(text: str) -> str:
    """Escape, and keep the two marks that the texts use."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _grid(grid: Grid) -> str:
    head = "".join(f"<th>{_inline(text)}</th>" for text in grid.head)
    errors = len(grid.head) - 1 if grid.head[-1] == "errors" else -1
    rows = []
    for row in grid.rows:
        ours = ' class="ours"' if row[0].startswith(("forkserve", "worker-forkserve")) else ""
        bad = [' class="bad"' if at == errors and text != "0" else "" for at, text in enumerate(row)]
        cells = "".join(f"<td{mark}>{_inline(text)}</td>" for mark, text in zip(bad, row, strict=True))
        rows.append(f"<tr{ours}>{cells}</tr>")
    # Long words of goals and verdicts may break; names of servers may not.
    wordy = ' class="wordy"' if any(len(row[0]) > 40 for row in grid.rows) else ""
    return f"<table{wordy}><tr>{head}</tr>{''.join(rows)}</table>"


def _figure(folder: Path, figure: Figure) -> str:
    file = folder / f"{figure.key}.svg"
    if not file.exists():
        return ""
    svg = file.read_text()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def _anchor(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))


def _contents(blocks: list[Block]) -> str:
    """List the sections, folded in: there may be seventy."""
    items = [
        f'<li class="level{block.level}"><a href="#{_anchor(block.text)}">{_inline(block.text)}</a></li>'
        for block in blocks
        if isinstance(block, Heading) and block.level > 1
    ]
    return f"<details><summary>Contents</summary><ul>{''.join(items)}</ul></details>"


def _block(block: Block, plots: Path) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Items(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Grid():
            return _grid(block)
        case Code(text):
            return f"<pre>{escape(text)}</pre>"
        case Figure():
            return _figure(plots, block)


def render(blocks: list[Block], plots: Path) -> str:
    """Return the page; `plots` is the folder to take the SVG files from."""
    title, *rest = (_block(block, plots) for block in blocks)
    body = "\n".join([title, _contents(blocks), *rest])
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>forkserve benchmarks</title>'
    return f"{head}<style>{STYLE}</style><body>{body}</body></html>\n"
