"""The corpus of raw HTTP requests beside this file, and what each must come to.

A file is a list of cases:

    == name of the case [RFC 9112 3.2] -> 400
    for x: \\x00 \\x01
    GET / HTTP/1.1\\r\\n
    Host: a{x}b\\r\\n
    \\r\\n
    => {"method": "GET", "body": "..."}

`-> 400` is the status it is refused with, `-> ok` means every request is served, `-> more` that the server still waits
for bytes. `=>` lines, one JSON object each, are the requests served before that, with the facts to compare. Line ends
of the file are layout; `\\r \\n \\t \\s \\\\ \\0 \\xHH` stand for bytes and `\\rep{9000}{A}` for a repetition. With
`for`, the case stands for one case for each value in place of `{x}`. A `#` begins a comment line.

Feed it to a parser, or send `Case.raw` over a socket: `served` requests get a final answer below 400, then, if
`refusal` is set, one with that status and a close; never half-close before the answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Case", "cases", "invalid_cases", "valid_cases"]

FOLDER = Path(__file__).parent / "corpus"
_TITLE = re.compile(r"== (?P<name>.+) \[(?P<rfc>[^\]]+)\] -> (?P<outcome>ok|more|\d{3})")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|rep\{(\d+)\}\{([^}]*)\}|([rnt0s\\]))")
_SIMPLE = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\", b"s": b" "}


@dataclass(frozen=True, slots=True)
class Case:
    """One raw input. `served` are the facts of each request that is served; `refusal` is None or a status."""

    name: str
    rfc: str
    raw: bytes
    served: tuple[dict[str, Any], ...]
    refusal: int | None
    incomplete: bool
    area: str
    """The file it comes from: request_line, fields or framing."""

    def __str__(self) -> str:
        return self.name


def _unescape(text: bytes) -> bytes:
    def replace(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes([int(match[1], 16)])
        if match[2]:
            return _unescape(match[3]) * int(match[2])
        return _SIMPLE[match[4]]

    return _ESCAPE.sub(replace, text)


def _case(area: str, title: re.Match[str], lines: list[str], value: str | None) -> Case:
    name = title["name"]
    if value is not None:
        name = f"{name}: {value}"
        lines = [line.replace("{x}", value) for line in lines]
    raw = "".join(line for line in lines if not line.startswith("=> "))
    served = tuple(json.loads(line[3:]) for line in lines if line.startswith("=> "))
    outcome = title["outcome"]
    return Case(
        name=name,
        rfc=title["rfc"],
        raw=_unescape(raw.encode("utf-8")),
        served=served,
        refusal=int(outcome) if outcome.isdigit() else None,
        incomplete=outcome == "more",
        area=area,
    )


def _read(path: Path) -> list[Case]:
    found: list[Case] = []
    title: re.Match[str] | None = None
    lines: list[str] = []
    values: list[str | None] = [None]
    for line in [*path.read_text("utf-8").splitlines(), "== end"]:
        if line.startswith("== "):
            if title is not None:
                found += [_case(path.stem, title, lines, value) for value in values]
            title, lines, values = _TITLE.fullmatch(line), [], [None]
            if title is None and line != "== end":
                raise ValueError(f"{path.name}: {line}")
        elif line.startswith("for x: "):
            values = list(line[7:].split())
        elif not line.startswith("#"):
            lines.append(line)
    return found


@cache
def cases() -> tuple[Case, ...]:
    """Return every case of every file."""
    return tuple(case for path in sorted(FOLDER.glob("*.txt")) for case in _read(path))


def valid_cases() -> tuple[Case, ...]:
    """Return the cases in which every request is served."""
    return tuple(case for case in cases() if case.refusal is None and not case.incomplete)


def invalid_cases() -> tuple[Case, ...]:
    """Return the cases that end in a refusal, after any requests that are served."""
    return tuple(case for case in cases() if case.refusal is not None)
