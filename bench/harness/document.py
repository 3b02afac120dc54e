"""The report as blocks: headings, paragraphs, tables, figures, code. markdown.py and page.py write them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.harness import glance, goals
from bench.harness.model import DISTURBED, VOID, Better, Metric
from bench.harness.servers import SERVERS
from bench.harness.stats import Stat
from bench.harness.store import Results
from bench.harness.summary import Row, Table, losses

__all__ = ["Block", "Code", "Figure", "Grid", "Heading", "Items", "Text", "compose", "grid_of"]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 3."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first column is text, the others are figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to type."""

    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot, by its key: plots/KEY.svg."""

    key: str
    caption: str


Block = Heading | Text | Items | Grid | Code | Figure

READING = (
    "A figure is the median of the rounds; ± is half the range between the lowest and the highest, in per cent. A "
    "ratio (x of a baseline) is computed within each round, in which both servers met the same conditions; the table "
    "shows the median of these ratios. Ratios carry over to other machines, absolute figures do not.",
    "Each server answers one request, which is checked. Then it is loaded by clients that compare every byte, and "
    "then timed by wrk, whose count of bytes must agree with its count of answers. The column `errors` has the "
    "failures of all three steps.",
    "`server CPU` is the CPU time of all processes of the server per request. It says more than requests per second "
    "where the load generator was at its limit (`client CPU` near 1) or the machine was disturbed. `x by CPU` is the "
    "baseline's CPU time divided by the server's: above 1 the server needs less than the baseline.",
    "`nginx` answers `return 200` without an application: it shows the limit of this machine and this load generator, "
    "and is not a competitor.",
    f"`noise` is the number of cores that other programs kept busy meanwhile. Above {DISTURBED} the figures are "
    f"doubtful; `--resume` repeats a round in which a measurement has more than {VOID}.",
)


def number(stat: Stat | None, metric: Metric) -> str:
    """Write a median with its spread."""
    if stat is None:
        return "-"
    text = f"{stat.median:,.{metric.digits}f}"
    return f"{text} ±{stat.spread:.0%}" if stat.count > 1 and stat.median else text


def ratio(stat: Stat | None) -> str:
    """Write a ratio."""
    return "-" if stat is None else f"{stat.median:.2f}"


def _errors(row: Row) -> str:
    parts = [f"{count:,} {kind}" for kind, count in sorted(row.errors.items())]
    return ", ".join((["FAILED"] if row.failed else []) + parts) or "0"


def grid_of(table: Table) -> Grid:
    """Write one table; the ratio and the share of the limit stand beside the headline."""
    metrics = table.scenario.metrics
    limit = any(row.of_limit for row in table.rows)
    judged = table.divides and any(row.ratio for row in table.rows)
    head = ["server", _label(metrics[0])]
    by_cpu = any(row.by_cpu for row in table.rows)
    head += [f"x {table.base}"] if judged else []
    head += ["x by CPU"] if by_cpu else []
    head += ["of nginx"] if limit else []
    head += [*(_label(metric) for metric in metrics[1:]), "errors"]
    rows = []
    for row in table.rows:
        cells = [row.server, number(row.stats.get(metrics[0].name), metrics[0])]
        cells += [ratio(row.ratio)] if judged else []
        cells += [ratio(row.by_cpu)] if by_cpu else []
        cells += [ratio(row.of_limit)] if limit else []
        cells += [*(number(row.stats.get(metric.name), metric) for metric in metrics[1:]), _errors(row)]
        rows.append(tuple(cells))
    return Grid(tuple(head), tuple(rows))


def _label(metric: Metric) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    arrow = {Better.HIGHER: " ↑", Better.LOWER: " ↓", Better.NEITHER: ""}[metric.better]
    return f"{metric.label}{unit}{arrow}"


def _section(table: Table) -> list[Block]:
    blocks: list[Block] = [
        Heading(table.title, 3),
        Text(f"{table.scenario.question} Noise {table.noise:.2f} cores."),
        grid_of(table),
    ]
    if table.scenario.reading:
        blocks.append(Text(table.scenario.reading))
    notes = tuple(f"{row.server}: {row.note}" for row in table.rows if row.note)
    if notes:
        blocks.append(Items(notes))
    if any(table.headline.name in row.stats for row in table.rows):
        blocks.append(Figure(table.key, f"{table.title}: {_label(table.headline)}"))
    return blocks


def _loss_lines(found: list[Table]) -> tuple[str, ...]:
    lines = []
    for loss in losses(found):
        metric = loss.metric
        mine, its = (number(row.stats[metric.name], metric) for row in (loss.ours, loss.theirs))
        lines.append(f"{loss.table.title}, {_label(metric)}: {loss.theirs.server} {its}, {loss.ours.server} {mine}")
    return tuple(lines)


def _glance(found: list[Table]) -> list[Block]:
    lines = glance.lines(found)
    if not lines:
        return []
    rows = tuple(
        (line.scenario.title, _label(line.scenario.metrics[0]), _leads(line.gunicorn), _leads(line.field), _who(line))
        for line in lines
    )
    intro = (
        "The best forkserve backend compared with the best worker of Gunicorn, and with the best of all other servers, "
        "by the first figure of each table: above 1 forkserve leads, below 1 it loses. A scenario with several tables "
        "has a range, from the least to the most favourable ratio. The last column names the closest server, and its "
        "table."
    )
    return [
        Heading("At a glance"),
        Text(intro),
        Grid(("what", "figure", "x Gunicorn", "x the best", "the closest"), rows),
    ]


def _leads(duels: tuple[glance.Duel, ...]) -> str:
    ends = dict.fromkeys(f"{duel.lead:,.2f}" for duel in (*duels[:1], *duels[-1:]))
    return " to ".join(ends) or "-"


def _who(line: glance.Line) -> str:
    closest = line.field[0]
    return f"{closest.theirs.server}, {closest.table.variant}".removesuffix(", ")


def _goals(results: Results) -> list[Block]:
    findings = goals.judge(results.measurements)
    counts = Counter(finding.verdict.partition(";")[0] for finding in findings)
    rows = tuple(
        (finding.goal.describe(), finding.goal.asked(), _found(finding), ratio(finding.by_cpu), finding.verdict)
        for finding in findings
        if finding.found
    )
    intro = (
        f"The goals of forkserve: {counts['met']} met, {counts['MISSED']} missed, {counts['not measured']} "
        "not measured in this run. Ratios are computed within rounds, as everywhere, and judged by the rate. `by CPU` "
        "is the other server's CPU time per request divided by ours. A server that brought the client to its limit is "
        "faster than its rate says: there the CPU ratio is the better measure."
    )
    blocks: list[Block] = [Heading("Goals"), Text(intro)]
    if rows:
        blocks.append(Grid(("goal", "asked", "found", "by CPU", "verdict"), rows))
    missing = tuple(f"{f.goal.describe()} {f.goal.asked()}: {f.verdict}" for f in findings if not f.found)
    return [*blocks, Text("Not measured in this run:"), Items(missing)] if missing else blocks


def _found(finding: goals.Finding) -> str:
    text = "-" if finding.found is None else f"{finding.found.median:,.2f}"
    return f"{text} ({finding.rival})" if len(finding.goal.theirs) > 1 and finding.rival else text


def _machine(machine: Mapping[str, Any]) -> Grid:
    keys = ("processor", "cores", "memory_gib", "system", "kernel", "governor", "python", "pins", "load_before")
    return Grid(("machine", ""), tuple((key.replace("_", " "), str(machine.get(key, "?"))) for key in keys))


def _commands(found: list[Table]) -> str:
    """Write one command per server and option set, the first that was seen of each."""
    seen: dict[str, str] = {}
    for table in found:
        for row in table.rows:
            if row.command:
                seen.setdefault(row.server, row.command)
    lines = []
    for server, command in seen.items():
        advice = SERVERS[server].advice if server in SERVERS else ""
        lines.append(f"# {server}: {advice}\n{command}")
    return "\n".join(lines)


def _count(number: object, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def compose(results: Results, found: list[Table], comparison: list[Block]) -> list[Block]:
    """Put the whole report together."""
    settings, machine = results.settings, results.machine
    blocks: list[Block] = [Heading("Benchmarks", 1)]
    state = "" if results.complete else " **The run was cut off; this is what it had measured.**"
    resumed = "".join(f", resumed on {time}" for time in settings.get("resumed", ()))
    blocks.append(
        Text(
            f"Measured by `{settings.get('command', 'bench/run.sh')}` on {results.started}{resumed}, "
            f"{_count(settings.get('rounds'), 'round')} of {settings.get('duration')} s, "
            f"servers interleaved. `bench/README.md` describes how to repeat it.{state}"
        )
    )
    disturbed = sum(table.noise > DISTURBED for table in found)
    if disturbed:
        warning = (
            f"**The machine was disturbed: {disturbed} of {len(found)} tables have noise above {DISTURBED} cores.**"
        )
        blocks.append(Text(f"{warning} Trust their ratios by CPU more than their rates."))
    blocks += [*_glance(found), Heading("How to read this"), Items(READING), Heading("Where forkserve loses")]
    losing = _loss_lines(found)
    nothing = "No other server beats the best forkserve backend beyond the spread in any figure of this run."
    blocks.append(Items(losing) if losing else Text(nothing))
    blocks += _goals(results)
    blocks += comparison
    blocks.append(Heading("Results"))
    for table in found:
        blocks += _section(table)
    versions = machine.get("versions", {})
    blocks += [Heading("Machine"), _machine(machine), Heading("Versions")]
    blocks.append(Grid(("program", "version"), tuple((name, str(version)) for name, version in versions.items())))
    blocks += [
        Heading("Commands"),
        Text("Each server is started as its documentation recommends:"),
        Code(_commands(found)),
    ]
    return blocks
