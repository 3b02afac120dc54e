"""From a view to lines of text, each with a style for the terminal.

Rules: pure; a line is never longer than the page is wide. At 80 columns the reasons of what does not run come below
their rows, on wide pages in a separate column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from forkserve.cli.tables import size
from forkserve.cli.top.rows import Row, Summary, View
from forkserve.wording import exact_duration

__all__ = ["HELP", "PageLine", "header_lines", "page_lines", "row_lines", "wrapped"]

WIDE = 120
"""Width from which on the table has more columns."""
NARROWEST_NAME, WIDEST_NAME = 10, 32
HELP = """
  q         leave                    s   sort by the next of name, cpu, memory,
  up, k     one row up                   requests, connections, age, restarts
  down, j   one row down             l   the last output of the row's processes
  PgUp/Dn   a page up or down        S   their stacks: threads, tasks ...
  Home/End  the first, the last      r   reload the row's watcher (asks first)
  h, ?      this page                    any other key leaves a page

  CONN   connections open now        FLY  requests in flight
  REQ/S  requests a second           RST  processes lost and replaced
  MEM    PSS, in which memory that processes share counts in part, else RSS
  Only processes that keep the scoreboard have CONN, FLY and REQ/S.
""".strip("\n")


@dataclass(frozen=True, slots=True)
class PageLine:
    """One line. `style` is a state (ready, fatal ...), `header`, `watcher` or nothing; `row` is the row that it
    shows.
    """

    text: str
    style: str = ""
    row: Row | None = None


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    value: Callable[[Row], str]
    left: bool = False


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _short(count: int | None) -> str:
    """Return a size in at most six characters: 812B, 27.4M, 1.2G."""
    if count is None:
        return "-"
    value, unit = size(count).split(" ")
    return f"{value}{unit[0]}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _age(row: Row) -> str:
    return "" if row.age is None else exact_duration(row.age).replace(" ", "")


def _state(row: Row) -> str:
    return row.state


_NARROW = (
    _Column("STATE", 13, _state, left=True),
    _Column("PID", 7, lambda row: "" if row.is_watcher else str(row.pid or "-")),
    _Column("CONN", 4, lambda row: _number(row.connections)),
    _Column("FLY", 3, lambda row: _number(row.in_flight)),
    _Column("REQ/S", 6, lambda row: _rate(row.rate)),
    _Column("CPU%", 5, lambda row: _number(row.cpu, 1)),
    _Column("MEM", 6, lambda row: _short(row.memory if row.pss is None else row.pss)),
    _Column("AGE", 6, _age),
    _Column("RST", 3, lambda row: _number(row.restarts)),
)
_MORE: Mapping[str, tuple[_Column, ...]] = {
    "PID": (_Column("GEN", 5, lambda row: row.generation),),
    "CPU%": (_Column("RSS", 6, lambda row: _short(row.memory)), _Column("PSS", 6, lambda row: _short(row.pss))),
}
"""The column after which each extra one of a wide page comes; MEM is handled separately."""


def wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Return lines of a text that fit a width: what is longer goes on in the next line, indented."""
    room = max(width, 8)
    found: list[str] = []
    for line in lines:
        found.append(line[:room])
        rest = line[room:]
        while rest:
            found.append(f"  {rest[: room - 2]}")
            rest = rest[room - 2 :]
    return found


def page_lines(view: View, width: int, *, sort: str = "name") -> list[PageLine]:
    """Return a whole page."""
    return [*header_lines(view.summary, width), *row_lines(view.rows, width, sort=sort)]


def header_lines(summary: Summary, width: int) -> list[PageLine]:
    """Return the lines above the table."""
    who = " ".join(filter(None, ("forkserve", summary.version, summary.name)))
    first = f"{who}, pid {summary.pid}, up {exact_duration(summary.uptime)}, {summary.source}"
    memory = f"PSS {size(summary.pss)}" if summary.pss is not None else f"RSS {size(summary.memory)}"
    figures = [
        f"{_rate(summary.rate)} req/s",
        f"p50 {_time(summary.p50)}",
        f"p99 {_time(summary.p99)}",
        "5xx -" if summary.errors is None else f"5xx {100 * summary.errors:.1f}%",
        f"queue {summary.waiting}" + (f"/{summary.capacity}" if width >= WIDE else ""),
        memory,
    ]
    if width >= WIDE:
        figures.insert(4, f"in flight {summary.in_flight}")
    deploy = summary.deploy or "none since the start"
    if summary.deploy_age is not None:
        deploy = f"{deploy}, {exact_duration(summary.deploy_age)} ago"
    return [PageLine(_cut(text, width)) for text in (first, "  ".join(figures), f"deploy: {deploy}")]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def row_lines(rows: Sequence[Row], width: int, *, sort: str = "name") -> list[PageLine]:
    """Return the title of the table, and the rows."""
    columns = _columns(width)
    taken = sum(each.width + 1 for each in columns)
    name = max(NARROWEST_NAME, min(WIDEST_NAME, max((len(_name(row)) for row in rows), default=0), width - taken))
    room = width - taken - name - 2
    titles = " ".join(each.title.ljust(each.width) if each.left else each.title.rjust(each.width) for each in columns)
    note = f"{'':{name - 4}} {titles}" + ("  REASON" if width >= WIDE else "")
    lines = [PageLine(_cut(f"NAME{note}", width), "header")]
    for row in rows:
        cells = " ".join(_cell(each, row) for each in columns)
        text = f"{_fitting(_name(row), name):{name}} {cells}"
        reason = row.reason if width >= WIDE else ""
        text = f"{text}  {_cut(reason, room)}".rstrip() if reason and room > 0 else text
        style = "watcher" if row.is_watcher else row.state
        lines.append(PageLine(_cut(text, width), style, row))
        if row.reason and width < WIDE and (row.pid is None or row.is_watcher):
            lines.append(
                PageLine(_cut(f"    {row.reason}", width), style if row.pid is None and not row.is_watcher else "")
            )
    return lines


def _columns(width: int) -> list[_Column]:
    if width < WIDE:
        return list(_NARROW)
    found = []
    for each in _NARROW:
        found += [each] if each.title != "MEM" else []
        found += _MORE.get(each.title, ())
    return found


def _cell(column: _Column, row: Row) -> str:
    text = _cut(column.value(row), column.width) if column.left else column.value(row)
    return text.ljust(column.width) if column.left else text.rjust(column.width)


def _name(row: Row) -> str:
    if row.is_watcher:
        return row.watcher
    return f"  {row.target}" if not row.target.isdecimal() else "  zygote"


def _fitting(name: str, width: int) -> str:
    """Return a name, shortened before the number of the slot if necessary."""
    start, bracket, number = name.rpartition("[")
    return f"{_cut(start, max(3, width - len(number) - 1))}[{number}" if bracket else _cut(name, width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"
