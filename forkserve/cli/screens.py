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
        lines = [_process_row(each, watcher) for each in watcher["processes"]]
        for number, each in enumerate(watcher["processes"], 1):
            if each.get("status"):
                reasons[len(rows) + number] = f"{each['name']}: {each['status']}"
        note = _note(watcher)
        if note:
            reasons[len(rows) + max(1, len(lines))] = f"{watcher['name']}: {note}"
        for slot in filter(_is_empty, watcher["slots"]):
            lines.append(_empty_row(slot, watcher))
            if not slot.get("stopped"):
                reasons[len(rows) + len(lines)] = _reason(slot)
        idle = "scheduled" if watcher.get("timer") and watcher["state"] == "active" else watcher["state"]
        for number, line in enumerate(lines or [["", idle, "-", "-", "-", "-", "", "-", "-"]]):
            first = [watcher["name"], str(watcher["restarts"])] if number == 0 else ["", ""]
            rows.append([line[0] or first[0], *line[1:6], first[1], *line[7:]])
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


def _own_name(place: Answer, watcher: Answer) -> str:
    """Return the name by `process_name` of a process or of a slot; empty for `web[3]`."""
    name = str(place.get("name", ""))
    return "" if place.get("zygote") or name == f"{watcher['name']}[{place['wid']}]" else name


def _is_empty(slot: Answer) -> bool:
    return slot["state"] in ("fatal", "backoff") or bool(slot.get("stopped"))


def _empty_row(slot: Answer, watcher: Answer) -> list[str]:
    state = "stopped" if slot.get("stopped") else slot["state"]
    return [_own_name(slot, watcher), state, "-", str(slot["wid"]), "-", "-", "", "-", "-"]


def _process_row(process: Answer, watcher: Answer) -> list[str]:
    old = " old" if process["generation"] < watcher["generation"] else ""
    cpu, memory = process.get("cpu"), process.get("memory")
    return [
        _own_name(process, watcher),
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
