"""Writes sections as TOML, so that a command line can be saved as a file.

Rules: pure. TOML and not INI, since INI cannot represent every text: ` ;` begins a comment there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from forkserve.config.document import Section, Value
from forkserve.config.model import MasterOptions, SocketOptions, StreamOptions, WatcherOptions
from forkserve.config.options import Option, options_of
from forkserve.config.values import boolean, integer, number, optional_integer

__all__ = ["as_toml", "toml_key", "toml_text"]

_NUMBERS = (integer, number, optional_integer)
_STREAMS = ("stdout_stream", "stderr_stream")
_CLASSES: Mapping[str, type[Any]] = {"circus": MasterOptions, "socket": SocketOptions, "watcher": WatcherOptions}


def as_toml(sections: Iterable[Section], env: Mapping[str, str]) -> str:
    """Return a file that parses to these sections; `env` are variables for all watchers."""
    tables = [_table(_header(each), _lines(each)) for each in sections]
    if env:
        tables.append(_table("env", [f"{toml_key(name)} = {toml_text(value)}" for name, value in env.items()]))
    return "\n".join(tables)


def _table(header: str, lines: Iterable[str]) -> str:
    return "\n".join([f"[{header}]", *lines, ""])


def _header(section: Section) -> str:
    return "forkserve" if section.kind == "circus" else f"{section.kind}.{toml_key(section.name)}"


def _lines(section: Section) -> list[str]:
    options = {each.name: each for each in options_of(_CLASSES[section.kind])}
    streams = {f"{stream}.{each.name}": each for stream in _STREAMS for each in options_of(StreamOptions)}
    known = {**options, **streams}
    return [f"{_keys(name)} = {_value(known.get(name), value)}" for name, value in section.values.items()]


def _value(option: Option | None, value: Value) -> str:
    """Return a value as TOML: numbers and booleans if the option takes nothing else, strings otherwise."""
    parse = option.parse if option is not None else None
    if parse is boolean:
        return "true" if boolean(value.text) else "false"
    if parse in _NUMBERS and re.fullmatch(r"-?(0|[1-9]\d*)", value.text):
        return value.text
    return toml_text(value.text)


def _keys(name: str) -> str:
    return ".".join(map(toml_key, name.split(".")))


def toml_key(name: str) -> str:
    """Return a name as a key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_text(name)


def toml_text(text: str) -> str:
    """Return a basic string: one of JSON, except for the escape of DEL and characters beyond U+FFFF."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
