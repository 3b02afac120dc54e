"""Write a report as Markdown."""

from __future__ import annotations

from bench.harness.document import Block, Code, Figure, Grid, Heading, Items, Text

__all__ = ["render"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _grid(grid: Grid) -> str:
    lines = ["| " + " | ".join(map(_cell, grid.head)) + " |"]
    lines.append("| --- |" + " ---: |" * (len(grid.head) - 1))
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in grid.rows]
    return "\n".join(lines)


def _block(block: Block, plots: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Items(items):
            return "\n".join(f"- {item}" for item in items)
        case Grid():
            return _grid(block)
        case Code(text):
            return f"```\n{text}\n```"
        case Figure(key, caption):
            return f"![{caption}]({plots}/{key}.svg)"


def render(blocks: list[Block], plots: str) -> str:
    """Return the document; `plots` is the folder of the plots as seen from it."""
    return "\n\n".join(_block(block, plots) for block in blocks) + "\n"
