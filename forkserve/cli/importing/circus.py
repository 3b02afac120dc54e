"""Reads circus.ini, and writes any sections as tables.

Rules: pure except for reading the file. Circus's grammar is forkserve's own, so only what forkserve does not support is
left out; included files stay as they are, in Circus's grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from forkserve.cli.importing.draft import Draft, Scalar
from forkserve.config import later
from forkserve.config.build import is_of_plugin
from forkserve.config.document import Findings, Section, Value, merge
from forkserve.config.ini import read_ini
from forkserve.config.model import MasterOptions, SocketOptions, StreamOptions, WatcherOptions
from forkserve.config.options import options_of
from forkserve.config.userfiles import read_text
from forkserve.config.values import boolean, integer, number, optional_integer

__all__ = ["add_sections", "read_circus"]

_CLASSES: dict[str, type[Any]] = {"circus": MasterOptions, "socket": SocketOptions, "watcher": WatcherOptions}
_LATER = {"circus": later.MASTER, "watcher": later.WATCHER}
_NUMBERS = (integer, number, optional_integer)
_STREAMS = ("stdout_stream.", "stderr_stream.")
_OPEN = ("hooks.", "rlimit_")


def read_circus(path: Path, draft: Draft) -> None:
    """Add a file to the draft; raises ConfigErrors, OSError and UnicodeDecodeError."""
    findings = Findings()
    sections = merge(read_ini(read_text(path), path.name, findings), findings)
    findings.raise_errors()
    for warning in findings.warnings:
        draft.note(*warning.split(": ", 1))
    add_sections(sections, draft)


def add_sections(sections: Iterable[Section], draft: Draft) -> None:
    """Add sections that forkserve has parsed, as equivalent tables."""
    for section in sections:
        if section.kind == "env":
            values: dict[str, Scalar] = {name: value.text for name, value in section.values.items()}
            draft.add(*(("env", section.name) if section.name else ("env",)), values=values)
        elif section.kind in _CLASSES:
            path = ("forkserve",) if section.kind == "circus" else (section.kind, section.name)
            draft.add(*path, values=_values(section, draft))
        elif section.kind == "plugin":
            draft.add("plugin", section.name, values={key: value.text for key, value in section.values.items()})
        else:
            draft.note(f"[{section.label}]", "is not a section of forkserve")


def _values(section: Section, draft: Draft) -> dict[str, Scalar]:
    options = {name: each for each in options_of(_CLASSES[section.kind]) for name in (each.name, *each.aliases)}
    streams = {name: each for each in options_of(StreamOptions) for name in (each.name, *each.aliases)}
    found: dict[str, Scalar] = {}
    for key, value in section.values.items():
        place = f"[{section.label}] {key}"
        stream = key.partition(".")[2] if key.startswith(_STREAMS) else ""
        option = streams.get(stream) if stream else options.get(key)
        reason = later.STREAM.get(stream) or _LATER.get(section.kind, {}).get(key)
        if option is not None:
            found[key] = _scalar(option.parse, value)
        elif section.kind == "watcher" and reason is None and (key.startswith(_OPEN) or is_of_plugin(key)):
            found[key] = value.text
        elif reason is None:
            draft.note(place, "is not an option of forkserve")
        elif not later.asks_for_nothing(value.text):
            draft.note(place, reason)
    return found


def _scalar(parse: object, value: Value) -> Scalar:
    """Return a value as a type of TOML if its option takes that; invalid values are left to `check`."""
    text = value.text.strip()
    if parse is boolean:
        try:
            return boolean(text)
        except ValueError:
            return value.text
    if parse in _NUMBERS and re.fullmatch(r"-?\d+", text):
        return int(text)
    if parse is number and re.fullmatch(r"-?\d*\.\d+", text):
        return float(text)
    return value.text
