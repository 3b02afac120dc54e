"""Lines of the access log: Gunicorn's atoms, or JSON.

Rules. No byte that a client sent can end a line or start an escape sequence: what is not printable ASCII is written
as \\xHH, quotes and backslashes get a backslash (CVE-2020-7694 is what happens else). A format is compiled once; an
unknown atom is found then, not at the first request. Times are UTC.

A line is made in three stages, for much of it comes again: what header fields, client and second decide (a stem); what
request line, status and size decide; and what differs with each request, where a format asks for that.

Atoms: h client address, l `-`, u user, t time, r request line, m method, U path, q query, H protocol, s status,
B body bytes, b body bytes or `-`, f Referer, a User-Agent, T seconds, M milliseconds, D microseconds, L seconds with
fraction, p process id in <>, i request id (ours: of --request-id-header), {name}i request header, {name}o response
header, {name}e variable.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from time import gmtime
from typing import Any, NamedTuple

from forkserve.serving.http.dates import MONTHS
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.tracecontext import trace_id

__all__ = ["JSON", "REQUEST_ID", "UNREAD", "UNREAD_FIELDS", "LineFormat", "Own", "Stem"]

REQUEST_ID = "forkserve.request_id"
"""The variable with the id of a request, if it has one."""
JSON = "json"
"""The format that is one JSON object, ASCII only."""
REMEMBERED = 256
"""Most lines that all stems of a format cache together: enough for what is frequent, few enough to cost nothing."""
FEW = 4
_ATOM = re.compile(r"%(?:\((\{[^{}]+\}[ioe]|[^(){}]+)\)s|(%)|(\([^()]*\).?|.?))", re.DOTALL)
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


Own = tuple[float, float, Fields, Mapping[str, Any], bytes]
"""What differs with each request: seconds since the epoch when it began, seconds until its response was sent, its
fields, the variables of its environ and the head of its response. A bare tuple, since there is one for each request.
"""


class _OfStem(NamedTuple):
    """An atom that depends on fields, address and second."""

    get: Callable[[Fields, str, int], str]


class _OfLine(NamedTuple):
    """An atom that depends on request line, status and size: its index in what `_values` or `_few` return."""

    place: int


class _OfOne(NamedTuple):
    """An atom that differs with each request."""

    get: Callable[[Own], str]


UNREAD = RequestLine("", b"", (b"", b""), False)
"""In place of the line of a request that was refused before its head was read; it is logged as `-`."""
UNREAD_FIELDS = Fields({}, None, False)
"""In place of its fields."""

Part = str | _OfStem | _OfLine | _OfOne


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in '"\\':
        return "\\" + char
    # Up to 0xff a character is a byte as the client sent it (PEP 3333); above it comes from the application.
    data = char.encode("latin-1") if char <= "\xff" else char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def _safe(text: str) -> str:
    # Four passes in C; together a third of what the expression costs.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _UNSAFE.sub(_escape, text)


def _or_dash(text: object) -> str:
    return _safe(str(text)) if text not in (None, "") else "-"


def _json(text: object) -> str:
    if not text:
        return '""'
    return encode_basestring_ascii(str(text)).replace("\x7f", "\\u007f")


@functools.lru_cache(4)
def _bracketed(second: int) -> str:
    at = gmtime(second)
    day = f"{at.tm_mday:02}/{MONTHS[at.tm_mon - 1]}/{at.tm_year}"
    return f"[{day}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000]"


@functools.lru_cache(4)
def _iso(second: int) -> str:
    at = gmtime(second)
    return f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}T{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"


def _field(name: str) -> Callable[[Fields], str]:
    """Return a function that finds a request's field in either shape (`serving.http.fields`); "" if it is missing."""
    name = name.lower()
    plain, wanted = name.upper().replace("-", "_"), name.encode("latin-1", "replace")
    prefixed = "HTTP_" + plain

    def find(fields: Fields) -> str:
        headers = fields.headers
        if isinstance(headers, dict):
            return str(headers.get(prefixed) or headers.get(plain, ""))
        for key, value in reversed(headers):
            if key == wanted:
                return str(value, "latin-1")
        return ""

    return find


_referer, _agent, _authorization = _field("referer"), _field("user-agent"), _field("authorization")
_given_id, _traceparent = _field("x-request-id"), _field("traceparent")


def _user(fields: Fields) -> str:
    scheme, _, credentials = _authorization(fields).partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode("utf-8", "replace").partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def _target(line: RequestLine) -> str:
    return line.target.decode("latin-1")


def _response_field(name: str) -> Callable[[Own], str]:
    name = name.lower()

    def find(own: Own) -> str:
        for line in own[4].decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return _or_dash(value)
        return "-"

    return find


_ATOMS: dict[str, Part] = {
    "l": "-",
    "h": _OfStem(lambda fields, address, second: _or_dash(address)),
    "t": _OfStem(lambda fields, address, second: _bracketed(second)),
    "u": _OfStem(lambda fields, address, second: _or_dash(_user(fields))),
    "f": _OfStem(lambda fields, address, second: _or_dash(_referer(fields))),
    "a": _OfStem(lambda fields, address, second: _or_dash(_agent(fields))),
    "r": _OfLine(0),
    "s": _OfLine(1),
    "B": _OfLine(2),
    "b": _OfLine(3),
    "m": _OfLine(4),
    "U": _OfLine(5),
    "q": _OfLine(6),
    "H": _OfLine(7),
    "T": _OfOne(lambda own: str(int(own[1]))),
    "M": _OfOne(lambda own: str(int(own[1] * 1_000))),
    "D": _OfOne(lambda own: str(int(own[1] * 1_000_000))),
    "L": _OfOne(lambda own: f"{own[1]:.6f}"),
    "i": _OfOne(lambda own: _or_dash(own[3].get(REQUEST_ID))),
}


def _few(line: RequestLine, status: int, size: int) -> tuple[object, ...]:
    """The first of `_values`, which suffice for most formats."""
    if line is UNREAD:
        return "-", status, size, size or "-"
    text = f"{line.method} {str(line.target, 'latin-1')} HTTP/{line.version}"
    # As in `_safe`, without the call.
    if not (text.isascii() and text.isprintable() and '"' not in text and "\\" not in text):
        text = _safe(text)
    return text, status, size, size or "-"


def _values(line: RequestLine, status: int, size: int) -> tuple[object, ...]:
    if line is UNREAD:
        return *_few(line, status, size), "-", "-", "", "-"
    own = _safe(line.method), _safe(line.path), _safe(line.query.decode("latin-1")), f"HTTP/{line.version}"
    return *_few(line, status, size), *own


def _json_values(line: RequestLine, status: int, size: int) -> tuple[object, ...]:
    protocol = '""' if line is UNREAD else f'"HTTP/{line.version}"'
    return _json(line.method), _json(_target(line)), protocol, status, size


def _json_fields(fields: Fields, address: str, second: int) -> str:
    return f'"referer":{_json(_referer(fields))},"user_agent":{_json(_agent(fields))}'


def _json_trace(fields: Fields, address: str, second: int) -> str:
    return _json(trace_id(_traceparent(fields) or None) or "")


def _json_parts(pid: int) -> list[Part]:
    return [
        '{"time":"',
        _OfStem(lambda fields, address, second: _iso(second)),
        _OfOne(lambda own: f".{int(own[0] % 1 * 1000):03}"),
        'Z","address":',
        _OfStem(lambda fields, address, second: f'{_json(address)},"user":{_json(_user(fields))},'),
        '"method":',
        _OfLine(0),
        ',"target":',
        _OfLine(1),
        ',"protocol":',
        _OfLine(2),
        ',"status":',
        _OfLine(3),
        ',"size":',
        _OfLine(4),
        ',"duration":',
        _OfOne(lambda own: f"{own[1]:.6f}"),
        ",",
        _OfStem(_json_fields),
        ',"request_id":',
        _OfOne(lambda own: _json(own[3].get(REQUEST_ID) or _given_id(own[2]))),
        ',"trace_id":',
        _OfStem(_json_trace),
        f',"pid":{pid}}}',
    ]


def _part(atom: str, pid: int) -> Part:
    if atom == "p":
        return f"<{pid}>"
    if atom.startswith("{"):
        name, kind = atom[1:-2], atom[-1]
        if kind == "e":
            return _OfOne(lambda own: _or_dash(own[3].get(name)))
        if kind == "o":
            return _OfOne(_response_field(name))
        find = _field(name)
        return _OfStem(lambda fields, address, second: _or_dash(find(fields)))
    if atom not in _ATOMS:
        raise ValueError(f"unknown atom %({atom})s in the access log format")
    return _ATOMS[atom]


def _parts(text: str, pid: int) -> list[Part]:
    parts: list[Part] = []
    at = 0
    for match in _ATOM.finditer(text):
        parts.append(text[at : match.start()])
        at = match.end()
        if match[2]:
            parts.append("%")
        elif match[1] is None:
            raise ValueError(f"a lone % in the access log format, before {match[3]!r}")
        else:
            parts.append(_part(match[1], pid))
    return [*parts, text[at:]]


def _picker(places: list[int]) -> Callable[[tuple[object, ...]], tuple[object, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    # Of one, itemgetter returns no tuple.
    return lambda values: tuple([values[place] for place in places])


class LineFormat:
    """A format of atoms, or JSON. Raises ValueError for an invalid format.

    `stem(...)[line, status, size]` is the line, without its end; if `own` has atoms, it is a template for their values.
    """

    def __init__(self, text: str, pid: int) -> None:
        self._parts = _json_parts(pid) if text == JSON else _parts(text, pid)
        self.own = tuple(part.get for part in self._parts if isinstance(part, _OfOne))
        places = [part.place for part in self._parts if isinstance(part, _OfLine)]
        self.values = _json_values if text == JSON else _few if max(places, default=0) < FEW else _values
        self.pick = _picker(places)
        self.left = REMEMBERED

    def stem(self, fields: Fields, address: str, second: int) -> Stem:
        """Return the lines for these fields from this address in this second."""
        # A template is filled once for request line and answer, and once more for what differs with each request.
        percent = "%%%%" if self.own else "%%"
        texts = []
        for part in self._parts:
            if isinstance(part, str):
                texts.append(part.replace("%", percent))
            elif isinstance(part, _OfStem):
                texts.append(part.get(fields, address, second).replace("%", percent))
            else:
                texts.append("%s" if isinstance(part, _OfLine) else "%%s")
        return Stem("".join(texts), self)


class Stem(dict[tuple[RequestLine, int, int], str]):
    """Lines by request line, status and size, formatted when they are first needed."""

    __slots__ = ("_format", "_template")

    def __init__(self, template: str, format_: LineFormat) -> None:
        self._template = template
        self._format = format_

    def __missing__(self, key: tuple[RequestLine, int, int]) -> str:
        format_ = self._format
        values = format_.pick(format_.values(*key))
        if format_.own:
            values = tuple([str(value).replace("%", "%%") for value in values])
        text: str = self._template % values
        if format_.left > 0:
            format_.left -= 1
            self[key] = text
        return text
