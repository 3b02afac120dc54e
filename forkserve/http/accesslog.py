"""Lines of the access log: Gunicorn's atoms, or JSON.

Rules. No byte that a client sent can end a line or start an escape sequence: what is not printable ASCII is written
as \\xHH, quotes and backslashes get a backslash (CVE-2020-7694 is what happens else). A format is compiled once; an
unknown atom is found then, not at the first request. Times are UTC.

Atoms: h client address, l `-`, u user, t time, r request line, m method, U path, q query, H protocol, s status,
B body bytes, b body bytes or `-`, f Referer, a User-Agent, T seconds, M milliseconds, D microseconds, L seconds with
fraction, p process id in <>, i request id (ours: of --request-id-header), {name}i request header, {name}o response
header, {name}e variable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import gmtime

from forkserve.http.tracecontext import trace_id

__all__ = ["COMBINED", "REQUEST_ID", "AccessRecord", "Formatter", "StagedFormat", "compile_format", "json_line"]

REQUEST_ID = "forkserve.request_id"
"""The variable that holds the id of a request, where it has one."""
COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
_ATOM = re.compile(r"%(?:\((\{[^{}]+\}[ioe]|[A-Za-z])\)s|(%)|(.?))", re.DOTALL)
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(slots=True)
class AccessRecord:
    """One answered request. Names in the mappings are lower case; `variables` are those of the WSGI environ.

    `time` is seconds since the epoch when the request began, `duration` seconds until its response was sent, `size` the
    bytes of the response body.
    """

    address: str
    time: float
    method: str
    target: str
    path: str
    query: str
    protocol: str
    status: int
    size: int
    duration: float
    pid: int
    user: str = ""
    request: Mapping[str, str] = field(default_factory=dict)
    response: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, object] = field(default_factory=dict)


Formatter = Callable[[AccessRecord], str]


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in '"\\':
        return "\\" + char
    # Up to 0xff a character is a byte as the client sent it (PEP 3333); above it comes from the application.
    data = char.encode("latin-1") if char <= "\xff" else char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def _safe(text: str) -> str:
    return _UNSAFE.sub(_escape, text) if _UNSAFE.search(text) else text


def _or_dash(text: object) -> str:
    return _safe(str(text)) if text not in (None, "") else "-"


class _Clock:
    """The time in brackets, made once per second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, record: AccessRecord) -> str:
        second = int(record.time)
        if second != self._second:
            at = gmtime(second)
            self._text = (
                f"[{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
                f":{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000]"
            )
            self._second = second
        return self._text


class _Addresses:
    """The client's address, escaped once for each."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, record: AccessRecord) -> str:
        text = self._known.get(record.address)
        if text is None:
            if len(self._known) >= 1024:
                self._known.clear()
            text = self._known[record.address] = _or_dash(record.address)
        return text


_ATOMS: dict[str, Formatter] = {
    "l": lambda record: "-",
    "u": lambda record: _or_dash(record.user),
    "r": lambda record: f"{_safe(record.method)} {_safe(record.target)} {record.protocol}",
    "m": lambda record: _safe(record.method),
    "U": lambda record: _safe(record.path),
    "q": lambda record: _safe(record.query),
    "H": lambda record: record.protocol,
    "s": lambda record: str(record.status),
    "B": lambda record: str(record.size),
    "b": lambda record: str(record.size) if record.size else "-",
    "f": lambda record: _or_dash(record.request.get("referer")),
    "a": lambda record: _or_dash(record.request.get("user-agent")),
    "T": lambda record: str(int(record.duration)),
    "M": lambda record: str(int(record.duration * 1_000)),
    "D": lambda record: str(int(record.duration * 1_000_000)),
    "L": lambda record: f"{record.duration:.6f}",
    "p": lambda record: f"<{record.pid}>",
    "i": lambda record: _or_dash(record.variables.get(REQUEST_ID)),
}


def _getter(atom: str) -> Formatter:
    if atom == "t":
        return _Clock()
    if atom == "h":
        return _Addresses()
    if atom.startswith("{"):
        name, kind = atom[1:-2], atom[-1]
        if kind == "e":
            return lambda record: _or_dash(record.variables.get(name))
        name = name.lower()
        if kind == "i":
            return lambda record: _or_dash(record.request.get(name))
        return lambda record: _or_dash(record.response.get(name))
    if atom not in _ATOMS:
        raise ValueError(f"unknown atom %({atom})s in the access log format")
    return _ATOMS[atom]


def compile_format(text: str) -> Formatter:
    """Turn a format of atoms into a function from record to line, without line end; raises ValueError."""
    getters: list[Formatter] = []

    def literal(match: re.Match[str]) -> str:
        if match[2]:
            return "%%"
        if match[1] is None:
            raise ValueError(f"a lone % in the access log format, before {match[3]!r}")
        getters.append(_getter(match[1]))
        return "%s"

    template = _ATOM.sub(literal, text)
    return lambda record: template % tuple([get(record) for get in getters])


def json_line(record: AccessRecord) -> str:
    """The record as one JSON object in one line, ASCII only, without line end."""
    at = gmtime(record.time)
    second = f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}T{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    line = json.dumps(
        {
            "time": f"{second}.{int(record.time % 1 * 1000):03}Z",
            "address": record.address,
            "user": record.user,
            "method": record.method,
            "target": record.target,
            "protocol": record.protocol,
            "status": record.status,
            "size": record.size,
            "duration": round(record.duration, 6),
            "referer": record.request.get("referer", ""),
            "user_agent": record.request.get("user-agent", ""),
            "request_id": record.variables.get(REQUEST_ID) or record.request.get("x-request-id", ""),
            "trace_id": trace_id(record.request.get("traceparent")) or "",
            "pid": record.pid,
        },
        separators=(",", ":"),
    )
    return line.replace("\x7f", "\\u007f")


_LATE = re.compile(r"[histbBTMDL]|\{[^{}]+\}[oe]").fullmatch
"""Atoms that the request alone does not decide."""


class StagedFormat:
    """A format in two stages: `template(record)` fills in what the request decides, `line(template, record)` the rest.

    Requests that come again are the rule, so the first stage is worth remembering. Raises ValueError as compile_format.
    """

    __slots__ = ("_late", "_parts")

    def __init__(self, text: str) -> None:
        self._parts: list[str | Formatter] = []
        self._late: list[Formatter] = []
        at = 0
        for match in _ATOM.finditer(text):
            self._parts.append(text[at : match.start()])
            at = match.end()
            self._add(match)
        self._parts.append(text[at:])

    def _add(self, match: re.Match[str]) -> None:
        if match[2]:
            self._parts.append("%")
        elif match[1] is None:
            raise ValueError(f"a lone % in the access log format, before {match[3]!r}")
        elif _LATE(match[1]):
            self._late.append(_getter(match[1]))
            self._parts.append(_late_mark)
        else:
            self._parts.append(_getter(match[1]))

    def template(self, record: AccessRecord) -> str:
        """The line with `%s` for each late atom."""
        return "".join(
            "%s" if part is _late_mark else (part if isinstance(part, str) else part(record)).replace("%", "%%")
            for part in self._parts
        )

    def line(self, template: str, record: AccessRecord) -> str:
        """The whole line, without line end."""
        return template % tuple([get(record) for get in self._late])


def _late_mark(record: AccessRecord) -> str:
    raise NotImplementedError
