"""Lines of the access log."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from forkserve.http.accesslog import COMBINED, AccessRecord, compile_format, json_line

RECORD = AccessRecord(
    address="1.2.3.4",
    time=784111777.25,
    method="GET",
    target="/a?b=c",
    path="/a",
    query="b=c",
    protocol="HTTP/1.1",
    status=200,
    size=5,
    duration=1.2345678,
    pid=42,
    request={"referer": "http://r/", "user-agent": "ua", "x-y": "z"},
    response={"content-type": "text/plain"},
    variables={"wsgi.url_scheme": "https"},
)


def test_combined_format_is_apaches() -> None:
    line = compile_format(COMBINED)(RECORD)
    assert line == '1.2.3.4 - - [06/Nov/1994:08:49:37 +0000] "GET /a?b=c HTTP/1.1" 200 5 "http://r/" "ua"'


def test_every_atom_is_filled() -> None:
    text = "%(m)s %(U)s %(q)s %(H)s %(B)s %(T)s %(M)s %(D)s %(L)s %(p)s %({X-Y}i)s %({Content-Type}o)s %% "
    line = compile_format(text + "%({wsgi.url_scheme}e)s %({none}i)s")(RECORD)
    assert line == "GET /a b=c HTTP/1.1 5 1 1234 1234567 1.234568 <42> z text/plain % https -"


def test_empty_values_are_dashes() -> None:
    line = compile_format("%(b)s %(f)s %(a)s %(u)s %(h)s")(replace(RECORD, size=0, request={}, address=""))
    assert line == "- - - - -"


@pytest.mark.parametrize("text", ["%(x)s", "%(h)", "%h", "%", "%({a}x)s", "%(hh)s", "100%"])
def test_bad_format_is_refused_when_compiled(text: str) -> None:
    with pytest.raises(ValueError, match="access log format"):
        compile_format(text)


HOSTILE = 'a\r\nb\x1b[0m\x00\x7f\x85\xff"\\ \u2028\udcff\ud800'


def hostile() -> AccessRecord:
    changes: dict[str, Any] = dict.fromkeys(("address", "user", "method", "target", "path", "query"), HOSTILE)
    return replace(RECORD, **changes, request=dict.fromkeys(("referer", "user-agent", "x-y"), HOSTILE))


@pytest.mark.parametrize("text", [COMBINED, "%(u)s %(m)s %(U)s %(q)s %({x-y}i)s"])
def test_no_request_can_forge_a_line(text: str) -> None:
    line = compile_format(text)(hostile())
    assert line.isascii()
    assert line.isprintable()
    assert '\\"\\\\' in line
    assert "\\x0d\\x0ab\\x1b[0m\\x00\\x7f\\x85\\xff" in line


def test_json_is_one_ascii_line_that_reads_back() -> None:
    line = json_line(hostile())
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["target"] == HOSTILE
    assert json.loads(json_line(RECORD))["time"] == "1994-11-06T08:49:37.250Z"
