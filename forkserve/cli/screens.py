"""What forkservectl shows of watchers and processes: tables that fit a terminal, with the reason for what does not run.

Rules: pure; answers of the control interface in, text out. Colour marks only states.
"""

from __future__ import annotations

import textwrap
from typing import Any

from forkserve.cli.tables import render, size
from forkserve.wording import exact_duration

__all__ = ["has_failed", "status_screen", "timer_note"]

Answer = Any
SHORTEST_NAME = 8
_COLOURS = {"ready": "32", "spawning": "33", "draining": "33", "killing": "33", "backoff": "33", "fatal": "31"}
_RIGHT = {2, 3, 4, 5, 6, 7, 8}
_HEADER = ["WATCHER", "STATE", "PID", "WID", "GEN", "UPTIME", "RESTARTS", "CPU", "MEMORY"]


def has_failed(answer: Answer) -> bool:
    """Tell whether a slot of any watcher is FATAL."""
    return any(slot["state"] == "fatal" for watcher in answer for slot in watcher["slots"])


def status_screen(answer: Answer, *, colour: bool, columns: int = 80) -> str:
    """Return a line for each process and for each slot that should have one, with the reason."""
    rows: list[list[str]] = []
    reasons: dict[int, str] = {}
    for watcher in answer:
        lines = [*(_process_row(each, watcher["generation"]) for each in watcher["processes"])]
        for number, each in enumerate(watcher["processes"], 1):
            if each.get("status"):
                reasons[len(rows) + number] = f"{each['name']}: {each['status']}"
        note = _note(watcher)
        if note:
            reasons[len(rows) + max(1, len(lines))] = f"{watcher['name']}: {note}"
        for slot in watcher["slots"]:
            if slot["state"] in ("fatal", "backoff"):
                lines.append(["", slot["state"], "-", str(slot["wid"]), "-", "-", "", "-", "-"])
                reasons[len(rows) + len(lines)] = _reason(slot)
        idle = "scheduled" if watcher.get("timer") and watcher["state"] == "active" else watcher["state"]
        for number, line in enumerate(lines or [["", idle, "-", "-", "-", "-", "", "-", "-"]]):
            first = [watcher["name"], str(watcher["restarts"])] if number == 0 else ["", ""]
            rows.append([first[0], *line[1:6], first[1], *line[7:]])
    table = _fitting(rows, columns)
    lines_out: list[str] = []
    for number, text in enumerate(table):
        state = rows[number - 1][1] if number else ""
        lines_out.append(_coloured(text, state) if colour else text)
        if number in reasons:
            lines_out += textwrap.wrap(reasons[number], columns, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines_out)


def _note(watcher: Answer) -> str:
    if watcher["state"] == "delayed":
        return "serves on for its drain_delay, then stops"
    if watcher["state"] == "waiting" and not watcher.get("doing"):
        return "waiting for a connection (on_demand)"
    return str(watcher.get("doing", "")) or timer_note(watcher.get("timer"))


def timer_note(timer: Answer | None) -> str:
    """Return when a timer runs next, and how its last run ended."""
    if not timer:
        return ""
    parts = [f"run {number} goes on" for number in timer["running"]]
    parts += ["another run waits for that"] if timer["queued"] else []
    if timer["next_in"] is not None:
        parts.append(f"next run in {exact_duration(timer['next_in'])} ({timer['schedule']})")
    last = timer["last"]
    return "; ".join([*parts, *([f"{last['text']}, {exact_duration(last['ago'])} ago"] if last else [])])


def _fitting(rows: list[list[str]], columns: int) -> list[str]:
    """Return the lines of the table; long names are shortened to make it fit."""
    table = render(_HEADER, rows, right=_RIGHT).split("\n")
    excess = max(map(len, table)) - columns
    if excess <= 0:
        return table
    room = max(SHORTEST_NAME, max(len(row[0]) for row in rows) - excess)
    short = [[row[0] if len(row[0]) <= room else f"{row[0][: room - 1]}…", *row[1:]] for row in rows]
    return render(_HEADER, short, right=_RIGHT).split("\n")


def _process_row(process: Answer, newest: int) -> list[str]:
    old = " old" if process["generation"] < newest else ""
    cpu, memory = process.get("cpu"), process.get("memory")
    return [
        "",
        f"{process['state']}, adopted" if process.get("adopted") else process["state"],
        str(process["pid"]),
        str(process["wid"]),
        f"{process['generation']}{old}",
        exact_duration(process["uptime"]),
        "",
        "-" if cpu is None else f"{cpu:.1f}%",
        "-" if memory is None else size(memory),
    ]


def _reason(slot: Answer) -> str:
    again = "" if slot["retry_in"] is None else f"; next try in {exact_duration(slot['retry_in'])}"
    return f"{slot['reason'] or 'no reason is known'}{again}"


def _coloured(line: str, state: str) -> str:
    code = _COLOURS.get(state)
    return line.replace(f" {state}", f" \x1b[{code}m{state}\x1b[0m", 1) if code else line
