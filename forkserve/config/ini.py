"""Reads Circus's INI grammar, as circus 0.19 does.

Rules: pure; text in, sections out. `=` or `:` delimit. A line beginning with `#`, `;` or the word `rem` is a comment;
`;` after white space begins a comment inside a value, but only the first `;` of a line is looked at. An indented line
continues the value before it, also over blank lines. No `%` interpolation; keys keep their case; `""` is empty.
A key met again is not an error: the first value wins. (Circus dies if the ignored value has continuation lines.)
"""

from __future__ import annotations

import re

from forkserve.config.document import Findings, Section, Value
from forkserve.config.options import Origin

__all__ = ["read_ini"]

_HEADER = re.compile(r"\[(?P<title>[^]]+)\]")
_OPTION = re.compile(r"(?P<key>[^:=\s][^:=]*?)\s*[:=]\s*(?P<value>.*)$")
_MASTER_TITLES = ("circus", "forkserve")


class _Reader:
    """Keeps the position in a file."""

    def __init__(self, source: str, findings: Findings) -> None:
        self.source = source
        self.findings = findings
        self.titles: list[tuple[str, Origin]] = []
        self.values: list[list[tuple[str, Origin, list[str]]]] = []

    def line(self, number: int, line: str) -> None:
        """Take one line without its end."""
        if not line.strip() or line[0] in "#;" or line.split(None, 1)[0].lower() == "rem":
            return
        if line[0].isspace() and self.values and self.values[-1]:
            self.values[-1][-1][2].append(line.strip())
            return
        origin = Origin(self.source, number)
        header = _HEADER.match(line)
        if header:
            self.titles.append((header["title"].strip(), origin))
            self.values.append([])
            return
        option = _OPTION.match(line)
        if not self.values:
            self.findings.error(origin, f"expected a section such as [circus] first, got {line.strip()!r}")
        elif option is None:
            self.findings.error(origin, f"expected KEY = VALUE, [SECTION] or a comment, got {line.strip()!r}")
        else:
            self.values[-1].append((option["key"], origin, [_without_comment(option["value"])]))

    def sections(self) -> list[Section]:
        """Return the sections in order of appearance, not merged."""
        found: list[Section] = []
        for (label, origin), rows in zip(self.titles, self.values, strict=True):
            values: dict[str, Value] = {}
            for key, place, lines in rows:
                value = Value("\n".join(lines), place)
                kept = values.setdefault(key, value)
                if kept.text != value.text:
                    self.findings.warning(place, f"already set at {kept.origin}, ignored", label=label, key=key)
            found.append(Section(_title(label), values, origin, label))
        return found


def _without_comment(value: str) -> str:
    semicolon = value.find(";")
    if semicolon > 0 and value[semicolon - 1].isspace():
        value = value[:semicolon]
    value = value.strip()
    return "" if value == '""' else value


def _title(label: str) -> str:
    if label in _MASTER_TITLES:
        return "circus"
    kind, colon, name = label.partition(":")
    # the name of a socket is a part of placeholders, which know no case
    return f"socket{colon}{name.lower()}" if kind == "socket" else label


def read_ini(text: str, source: str, findings: Findings) -> list[Section]:
    """Return the sections of an INI text; mistakes go to `findings` with `source` and line."""
    reader = _Reader(source, findings)
    for number, line in enumerate(text.split("\n"), start=1):
        reader.line(number, line)
    return reader.sections()
