"""What forkservectl prints for an answer: a line, a table, or only the names.

Rules: pure except that it asks whether standard output is a terminal. An answer is plain data, already printable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from forkserve.cli.screens import status_screen
from forkserve.cli.tables import render, size
from forkserve.wording import exact_duration

__all__ = ["SHOWN", "done"]

Answer = Any
"""Values of msgspec and JSON: dictionaries, lists, text, numbers, true, false, null."""


def done(answer: Answer) -> str:
    """Return the line that says what was done."""
    return str(answer["message"])


def _status(answer: Answer) -> str:
    colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return status_screen(answer, colour=colour)


def _stats(answer: Answer) -> str:
    header = ["PROCESS", "PID", "CPU", "MEMORY", "PSS", "THREADS", "FDS", "CHILDREN", "UPTIME"]
    rows = [
        [process["name"], *_figures(process), _count(process.get("children")), exact_duration(process["uptime"])]
        for watcher in answer
        for process in watcher["processes"]
    ]
    return render(header, rows, right=set(range(1, 9)))


def _figures(process: Answer) -> list[str]:
    sizes = ("-" if process.get(key) is None else size(process[key]) for key in ("memory", "pss"))
    cpu = "-" if process.get("cpu") is None else f"{process['cpu']:.1f}%"
    return [str(process["pid"]), cpu, *sizes, _count(process.get("threads")), _count(process.get("fds"))]


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _dstats(answer: Answer) -> str:
    header = ["PROCESS", "PID", "CPU", "MEMORY", "PSS", "THREADS", "FDS", "AGE"]
    rows = [[each["name"], *_figures(each), exact_duration(each["age"])] for each in answer]
    return render(header, rows, right=set(range(1, 8)))


def _options(answer: Answer) -> str:
    """Return a line for each option, as circusctl prints them; a table as `NAME=VALUE,...`."""
    lines = []
    for name, value in answer.items():
        if isinstance(value, dict):
            value = ",".join(f"{key}={each}" for key, each in sorted(value.items()))
        lines.append(f"{name}: {'' if value is None else value}".rstrip())
    return "\n".join(lines)


def _names(answer: Answer) -> str:
    return "\n".join(map(str, answer))


def _sockets(answer: Answer) -> str:
    rows = [[entry["name"], entry["address"], entry["type"], str(entry["fd"])] for entry in answer]
    return render(["SOCKET", "ADDRESS", "TYPE", "FD"], rows, right={3})


def _stacks(answer: Answer) -> str:
    return "\n\n".join("\n".join([f"== {each['name']} pid {each['pid']}", *each["lines"]]) for each in answer)


def _version(answer: Answer) -> str:
    name = f" {answer['name']}" if answer["name"] else ""
    who = f"forkserve {answer['version']}{name}, master pid {answer['pid']}, up {exact_duration(answer['uptime'])}"
    return f"{who}, runs {answer['source']}"


SHOWN: Mapping[str, Callable[[Answer], str]] = {
    "list": _names,
    "numwatchers": str,
    "numprocesses": str,
    "dstats": _dstats,
    "options": _options,
    "get": _options,
    "globaloptions": _options,
    "status": _status,
    "stats": _stats,
    "listsockets": _sockets,
    "stacks": _stacks,
    "version": _version,
}
"""By verb; other verbs use `done`."""
