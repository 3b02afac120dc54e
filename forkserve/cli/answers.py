"""What forkservectl prints of an answer: a line, a table, or the names alone.

Rules: pure but for asking whether standard output is a terminal. An answer is plain data, already printable.
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
"""What msgspec and JSON know: dictionaries, lists, text, numbers, true, false, null."""


def done(answer: Answer) -> str:
    """Return the line that says what was done."""
    return str(answer["message"])


def _status(answer: Answer) -> str:
    colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return status_screen(answer, colour=colour)


def _stats(answer: Answer) -> str:
    header = ["PROCESS", "PID", "CPU", "MEMORY", "THREADS", "FDS", "CHILDREN", "UPTIME"]
    keys = ("threads", "fds", "children")
    rows = [
        [
            process["name"],
            str(process["pid"]),
            "-" if process.get("cpu") is None else f"{process['cpu']:.1f}%",
            "-" if process.get("memory") is None else size(process["memory"]),
            *("-" if process.get(key) is None else str(process[key]) for key in keys),
            exact_duration(process["uptime"]),
        ]
        for watcher in answer
        for process in watcher["processes"]
    ]
    return render(header, rows, right=set(range(1, 8)))


def _sockets(answer: Answer) -> str:
    rows = [[entry["name"], entry["address"], entry["type"], str(entry["fd"])] for entry in answer]
    return render(["SOCKET", "ADDRESS", "TYPE", "FD"], rows, right={3})


def _version(answer: Answer) -> str:
    name = f" {answer['name']}" if answer["name"] else ""
    who = f"forkserve {answer['version']}{name}, master pid {answer['pid']}, up {exact_duration(answer['uptime'])}"
    return f"{who}, runs {answer['source']}"


SHOWN: Mapping[str, Callable[[Answer], str]] = {
    "list": "\n".join,
    "status": _status,
    "stats": _stats,
    "listsockets": _sockets,
    "version": _version,
}
"""By verb; what is not named here is shown by `done`."""
