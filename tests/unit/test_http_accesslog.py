"""Lines of the access log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forkserve.config.serving import COMBINED
from forkserve.serving.http.accesslog import JSON, REQUEST_ID, LineFormat
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine, parse_line

LINE = parse_line(b"GET /a?b=c HTTP/1.1")
FIELDS = {"referer": "http://r/", "user-agent": "ua", "x-y": "z", "authorization": "Basic dTpw"}
SECOND = 784111777


def as_environ(fields: dict[str, str]) -> Fields:
    return Fields({"HTTP_" + name.upper().replace("-", "_"): value for name, value in fields.items()}, b"a", True)


def as_pairs(fields: dict[str, str]) -> Fields:
    return Fields([(name.encode(), value.encode("latin-1")) for name, value in fields.items()], b"a", True)


def line_of(
    text: str,
    *,
    line: RequestLine = LINE,
    fields: Fields | None = None,
    address: str = "1.2.3.4",
    size: int = 5,
    variables: dict[str, Any] | None = None,
) -> str:
    """The whole line of one request."""
    form = LineFormat(text, 42)
    fields = fields or as_environ(FIELDS)
    out = form.stem(fields, address, SECOND)[line, 200, size]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
    own = (SECOND + 0.25, 1.2345678, fields, variables or {"wsgi.url_scheme": "https"}, head)
    return out % tuple(get(own) for get in form.own) if form.own else out


@pytest.mark.parametrize("fields", [as_environ(FIELDS), as_pairs(FIELDS)])
def test_combined_format_is_apaches(fields: Fields) -> None:
    line = line_of(COMBINED, fields=fields)
    assert line == '1.2.3.4 - u [06/Nov/1994:08:49:37 +0000] "GET /a?b=c HTTP/1.1" 200 5 "http://r/" "ua"'


def test_every_atom_is_filled() -> None:
    text = "%(m)s %(U)s %(q)s %(H)s %(B)s %(T)s %(M)s %(D)s %(L)s %(p)s %({X-Y}i)s %({Content-Type}o)s %% "
    line = line_of(text + "%({wsgi.url_scheme}e)s %({none}i)s %({none}o)s %(i)s", variables=IDENTIFIED)
    assert line == "GET /a b=c HTTP/1.1 5 1 1234 1234567 1.234568 <42> z text/plain % https - - id"


IDENTIFIED = {"wsgi.url_scheme": "https", REQUEST_ID: "id"}


def test_empty_values_are_dashes() -> None:
    assert line_of("%(b)s %(f)s %(a)s %(u)s %(h)s", size=0, fields=as_environ({}), address="") == "- - - - -"


@pytest.mark.parametrize("end", ["", " %(M)s"])
def test_percents_that_a_client_sends_stay(end: str) -> None:
    """A line is made by filling templates, once or twice."""
    line = parse_line(b"GET /a%25s%28D%29?q=%s HTTP/1.1")
    fields = as_environ({"user-agent": "%(h)s %s %%s", "x-a": "50%"})
    out = line_of("100%% %(r)s %(U)s %(q)s %(a)s %({x-a}i)s" + end, line=line, fields=fields)
    assert out == "100% GET /a%25s%28D%29?q=%s HTTP/1.1 /a%s(D) q=%s %(h)s %s %%s 50%" + (" 1234" if end else "")


@pytest.mark.parametrize("text", ["%(h)s", "%(s)s", "", "word", "%(D)s"])
def test_a_format_may_have_one_atom_or_none(text: str) -> None:
    assert line_of(text) == {"%(h)s": "1.2.3.4", "%(s)s": "200", "%(D)s": "1234567"}.get(text, text)


@pytest.mark.parametrize("text", ["%(x)s", "%(h)", "%h", "%", "%({a}x)s", "%(hh)s", "100%"])
def test_bad_format_is_refused_when_compiled(text: str) -> None:
    with pytest.raises(ValueError, match="access log format"):
        LineFormat(text, 1)


HOSTILE_BYTES = b'a\r\nb\x1b[0m\x00\x7f\x85\xff"\\ '
HOSTILE = 'a\r\nb\x1b[0m\x00\x7f\x85\xff"\\ \u2028\udcff\ud800'


def hostile(text: str) -> str:
    """A line of a request that no parser of ours lets through."""
    line = RequestLine(HOSTILE, HOSTILE_BYTES, (HOSTILE_BYTES, HOSTILE_BYTES), True)
    line.path = HOSTILE
    fields = as_environ(dict.fromkeys(("referer", "user-agent", "x-y", "x-request-id", "traceparent"), HOSTILE))
    return line_of(text, line=line, fields=fields, address=HOSTILE, variables={REQUEST_ID: HOSTILE, "v": HOSTILE})


@pytest.mark.parametrize("text", [COMBINED, "%(u)s %(m)s %(U)s %(q)s %({x-y}i)s", "%(h)s %(i)s %({v}e)s", "%(r)s"])
def test_no_request_can_forge_a_line(text: str) -> None:
    line = hostile(text)
    assert line.isascii()
    assert line.isprintable()
    assert '\\"\\\\' in line
    assert "\\x0d\\x0ab\\x1b[0m\\x00\\x7f\\x85\\xff" in line


def test_json_is_one_ascii_line_that_reads_back() -> None:
    line = hostile(JSON)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["target"] == HOSTILE_BYTES.decode("latin-1")
    assert json.loads(line)["user_agent"] == json.loads(line)["request_id"] == HOSTILE
    assert json.loads(line_of(JSON, fields=as_environ(FIELDS | {"x-request-id": "given"}))) == {
        "time": "1994-11-06T08:49:37.250Z", "address": "1.2.3.4", "user": "u", "method": "GET", "target": "/a?b=c",
        "protocol": "HTTP/1.1", "status": 200, "size": 5, "duration": 1.234568, "referer": "http://r/",
        "user_agent": "ua", "request_id": "given", "trace_id": "", "pid": 42,
    }  # fmt: skip


def test_memory_is_bounded() -> None:
    form = LineFormat(COMBINED, 1)
    stem = form.stem(as_environ(FIELDS), "1.2.3.4", SECOND)
    for size in range(10_000):
        assert stem[LINE, 200, size].count(f" 200 {size or '-'} ") == 1
    assert len(stem) < 1000
