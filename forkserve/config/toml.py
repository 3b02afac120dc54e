"""Reads the same model from TOML, as nested tables.

    [forkserve]                      the master, Circus's [circus]
    [socket.NAME]                    a socket
    [watcher.NAME]                   a watcher; its tables env, rlimits, hooks, stdout_stream, stderr_stream
    [env]                            variables for all watchers; a table in it, ["env"."web*"], is for a pattern

Rules: pure; text in, sections out, the same as those of the INI reader. TOML is strict: a key nobody knows is an error.
The standard library's parser tells no line numbers, so they are found by a scan for headers and keys.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from forkserve.config.document import Findings, Kind, Section, Value
from forkserve.config.options import Origin
from forkserve.suggest import nearest

__all__ = ["read_toml"]

_TABLES = ("forkserve", "circus", "socket", "watcher", "plugin", "env")
_HEADER = re.compile(r"\s*(\[(?!\[).+\])\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")

_KINDS = {str: Kind.STRING, int: Kind.INTEGER, float: Kind.FLOAT}

_Path = tuple[str, ...]


def read_toml(text: str, source: str, findings: Findings) -> list[Section]:
    """Return the sections of a TOML text; mistakes go to `findings` with `source` and line."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line = _decoded(str(error))
        findings.error(Origin(source, line), message)
        return []
    return list(_Tables(source, _lines(text), findings).sections(data))


class _Tables:
    """Turns nested tables into sections."""

    def __init__(self, source: str, lines: Mapping[_Path, int], findings: Findings) -> None:
        self.source = source
        self.lines = lines
        self.findings = findings

    def sections(self, data: Mapping[str, Any]) -> Iterator[Section]:
        own: list[Section] = []
        for table, content in data.items():
            if table not in _TABLES:
                self._unknown(table)
            elif not isinstance(content, dict):
                self.findings.error(self._origin((table,)), f"expected a table, [{table}], got {content!r}")
            elif table in ("forkserve", "circus"):
                yield self._section("circus", (table,), content)
            elif table == "env":
                yield from self._environment(content)
            else:
                yield from self._named(table, content, own)
        # the last environment wins, and a watcher's own table is meant to
        yield from own

    def _unknown(self, table: str) -> None:
        advice = nearest(table, _TABLES) or f"; there are {', '.join(each for each in _TABLES if each != 'circus')}"
        self.findings.error(self._origin((table,)), f"unknown table {table!r}{advice}")

    def _environment(self, content: Mapping[str, Any]) -> Iterator[Section]:
        plain = {name: value for name, value in content.items() if not isinstance(value, dict)}
        if plain:
            yield self._section("env", ("env",), plain)
        for pattern, value in content.items():
            if isinstance(value, dict):
                yield self._section(f"env:{pattern}", ("env", pattern), value)

    def _named(self, table: str, content: Mapping[str, Any], own: list[Section]) -> Iterator[Section]:
        for name, keys in content.items():
            path = (table, name)
            if not isinstance(keys, dict):
                self.findings.error(
                    self._origin(path), f"expected a table for each {table}, as [{table}.NAME], got {name} = {keys!r}"
                )
                continue
            environment = keys.get("env") if table == "watcher" else None
            if isinstance(environment, dict):
                keys = {key: value for key, value in keys.items() if key != "env"}
            yield self._section(f"{table}:{name.lower() if table == 'socket' else name}", path, keys)
            if isinstance(environment, dict):
                own.append(self._section(f"env:{name}", (*path, "env"), environment))

    def _section(self, title: str, path: _Path, content: Mapping[str, Any]) -> Section:
        values = dict(self._flatten(path, content, ""))
        return Section(title, values, self._origin(path), ".".join(path), strict=True)

    def _flatten(self, path: _Path, content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
        for key, item in content.items():
            here = (*path, key)
            if isinstance(item, dict):
                inner = "rlimit_" if key == "rlimits" else f"{key}."
                yield from self._flatten(here, item, prefix + inner)
                continue
            value = self._value(here, item)
            if value is not None:
                yield prefix + key, value

    def _value(self, path: _Path, item: Any) -> Value | None:
        origin = self._origin(path)
        if isinstance(item, bool):
            return Value(str(item).lower(), origin, Kind.BOOLEAN)
        if not isinstance(item, list):
            return Value(str(item), origin, _KINDS.get(type(item), Kind.DATE))
        if all(isinstance(each, str | int | float) for each in item):
            return Value(shlex.join(str(each) for each in item), origin, Kind.LIST)
        self.findings.error(origin, "expected a value or a list of texts", label=".".join(path[:-1]), key=path[-1])
        return None

    def _origin(self, path: _Path) -> Origin:
        while path and path not in self.lines:
            path = path[:-1]
        return Origin(self.source, self.lines.get(path))


def _decoded(error: str) -> tuple[str, int | None]:
    """Split the parser's `Expected '=' (at line 3, column 5)` into a message and a line."""
    match = re.search(r" \(at line (\d+), column (\d+)\)$", error)
    if match is None:
        return f"not valid TOML: {error}", None
    return f"not valid TOML: {error[: match.start()]}, column {match[2]}", int(match[1])


def _lines(text: str) -> dict[_Path, int]:
    """Map each table and key that begins a line to the number of that line; the first of equal ones counts."""
    found: dict[_Path, int] = {}
    table: _Path = ()
    for number, line in enumerate(text.split("\n"), start=1):
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header:
            table = _path(header[1])
        elif not key:
            continue
        path = (*table, *_path(f"{key[1]} = 0")) if key else table
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], number)
    return found


def _path(statement: str) -> _Path:
    """Let the parser itself split a header or a key; text inside a multi-line string may not be one."""
    try:
        node: Any = tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(node, dict) and node:
        name, node = next(iter(node.items()))
        path.append(name)
    return tuple(path)
