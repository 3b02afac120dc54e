"""What a part of the soak has come to, and how large its parts are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["BACKENDS", "FULL", "QUICK", "Result", "Row", "Scale", "table"]

BACKENDS = ("sync", "threads", "gevent", "asgi")


@dataclass(frozen=True, slots=True)
class Scale:
    """How often each thing is done. `import_seconds` is how long the application takes to import."""

    reloads: int = 50
    deploys: int = 20
    queued: int = 200
    events: int = 100
    upgrades: int = 20
    watchers: int = 100
    kills: int = 50
    reforks: int = 200
    stops: int = 200
    import_seconds: float = 1.5
    added_wait: float = 0.05
    """Seconds that a client may wait longer because of a reload."""


FULL = Scale()
QUICK = Scale(reloads=3, deploys=8, events=10, upgrades=4, watchers=10, kills=5, reforks=6, stops=8, import_seconds=0.5)


@dataclass(frozen=True, slots=True)
class Result:
    """`requests` were sent and `failed` of them had no good answer; `figures` is the rest, in words."""

    requests: int = 0
    failed: int = 0
    figures: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `fault` is why it does not hold, empty when it does."""

    part: str
    variant: str
    seconds: float
    result: Result = Result()
    fault: str = ""


HEADS = ("part", "variant", "requests", "failed", "seconds", "verdict", "figures")


def table(rows: Iterable[Row]) -> str:
    """Return the rows in columns."""
    cells = [HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _cells(row: Row) -> tuple[str, ...]:
    found = row.result
    counts = (str(found.requests), str(found.failed)) if found.requests else ("-", "-")
    first = row.fault.partition("\n")[0][:100]
    return (
        row.part,
        row.variant,
        *counts,
        f"{row.seconds:.0f}",
        "FAULT" if row.fault else "ok",
        first or found.figures,
    )
