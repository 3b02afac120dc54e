"""The list of backends, for people and as JSON."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import Any

from forkserve.backends.registry import Entry, entries, state_of
from forkserve.config.serving import Parser
from forkserve.serving.native import PURE, hot
from forkserve.serving.parser import chosen

__all__ = ["backends_json", "backends_table"]


def backends_json() -> str:
    """Return the list as a JSON array of objects."""
    return json.dumps([_record(entry) for entry in entries()], indent=2)


def backends_table() -> str:
    """Return the list as text: a line for each backend, and notes below it."""
    rows = [_record(entry) for entry in entries()]
    width = max(len(row["name"]) for row in rows)
    columns = max(70, min(shutil.get_terminal_size((110, 24)).columns, 120))
    lines = [f"{'NAME':<{width}}  INTERFACE  USABLE  VERSION"]
    for row in rows:
        interface = ",".join(row["interfaces"])
        head = f"{row['name']:<{width}}  {interface:<9}  {'yes' if row['usable'] else 'no':<6}  {row['version'] or '-'}"
        lines.append(head.rstrip())
        for text in _notes(row):
            lines += textwrap.wrap(text, columns, initial_indent="    ", subsequent_indent="      ")
    return "\n".join([*lines, "", *textwrap.wrap(f"{_compiled()} {_parser()}", columns)])


def _compiled() -> str:
    if hot is not None:
        return "The hot path of sync, threads, gevent and asgi is the compiled one."
    why = "as FORKSERVE_PURE asks" if PURE else "since no C compiler was there when forkserve was installed"
    return f"The hot path of sync, threads, gevent and asgi is the one in Python, which is slower, {why}."


def _parser() -> str:
    if chosen(Parser.AUTO) is Parser.H11:
        why = "as FORKSERVE_PURE asks" if PURE else "since httptools cannot be imported"
        return f"Requests are parsed by h11, which is Python, {why}."
    return "Requests are parsed by compiled code (llhttp, by httptools); by h11 with --parser h11."


def _notes(row: dict[str, Any]) -> list[str]:
    notes = [row["concurrency"]]
    if not row["usable"]:
        notes.append(f"not here: {row['reason']}" + (f"; try: {row['cure']}" if row["cure"] else ""))
    if row["weaknesses"]:
        notes.append("weak: " + "; ".join(row["weaknesses"]))
    return notes


def _record(entry: Entry) -> dict[str, Any]:
    traits, state = entry.traits, state_of(entry.traits)
    return {
        "name": entry.name,
        "interfaces": sorted(each.value for each in traits.interfaces),
        "usable": state.usable,
        "version": state.version,
        "reason": state.reason,
        "cure": state.cure,
        "concurrency": traits.concurrency,
        "monkey_patches": traits.monkey_patches,
        "many_listeners": traits.many_listeners,
        "unix": traits.unix,
        "graceful": traits.graceful,
        "honours": sorted(traits.honours),
        "weaknesses": list(traits.weaknesses),
        "source": entry.source,
    }
