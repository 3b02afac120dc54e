"""Profiles and readers: what is remembered, bounded, and left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.body import body_reader
from forkserve.serving.http.fields import Collector, EnvironCollector, ScopeCollector
from forkserve.serving.http.llhttp import LlhttpFields
from forkserve.serving.http.pure import H11Fields
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import FieldReader, Profile, RequestReader

GET = b"GET /a?b HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n"


def read(raw: bytes, collector: type[Collector] = EnvironCollector, **limits: object) -> RequestReader:
    reader = RequestReader(Profile(HttpLimits(**limits), collector, RememberedFields))  # type: ignore[arg-type]
    assert reader.feed(raw)
    return reader


def refused(raw: bytes, **limits: object) -> int:
    with pytest.raises(Refusal) as caught:
        read(raw, **limits)
    return caught.value.status


def test_environ_of_a_request_line_and_fields() -> None:
    reader = read(b"GET /%C3%A4?b=%20 HTTP/1.1\r\nHost: h\r\nCookie: a\r\ncookie: b\r\nX: 1\r\nX: 2\r\n\r\n")
    assert reader.line.environ == {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/\u00c3\u00a4",
        "QUERY_STRING": "b=%20",
        "RAW_URI": "/%C3%A4?b=%20",
        "REQUEST_URI": "/%C3%A4?b=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    assert reader.line.text_path == "/ä"
    assert reader.fields.headers == {"HTTP_HOST": "h", "HTTP_COOKIE": "a; b", "HTTP_X": "1,2"}


def test_host_of_an_absolute_target_stands_in_both_shapes() -> None:
    raw = b"GET http://b/p HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n"
    reader = read(raw)
    assert reader.line.environ["HTTP_HOST"] == "b"
    assert reader.fields.host == b"b"
    assert (b"host", b"b") in read(raw, ScopeCollector).fields.headers
    assert (b"host", b"a") not in read(raw, ScopeCollector).fields.headers


def test_equal_blocks_share_their_fields_and_others_do_not() -> None:
    reader = RequestReader(Profile(HttpLimits(), EnvironCollector, RememberedFields))
    seen = []
    for _ in range(4):
        assert reader.feed(GET)
        seen.append(reader.fields)
    assert seen[2] is seen[3]
    assert reader.feed(GET.replace(b"y", b"z"))
    assert reader.fields.headers["HTTP_X"] == "z"


def test_a_remembered_block_is_judged_again_in_http_1_0() -> None:
    reader = RequestReader(Profile(HttpLimits(), EnvironCollector, RememberedFields))
    for _ in range(3):
        assert reader.feed(GET)
    assert reader.feed(GET.replace(b"1.1", b"1.0"))
    assert not reader.fields.keep_alive


def test_a_remembered_block_is_no_excuse_for_what_follows() -> None:
    reader = RequestReader(Profile(HttpLimits(), EnvironCollector, RememberedFields))
    for _ in range(3):
        assert reader.feed(GET)
    assert reader.feed(GET + b"GET /2 HTTP/1.1\r\n")
    assert reader.take_rest() == b"GET /2 HTTP/1.1\r\n"
    assert reader.take_rest() == b""


@pytest.mark.parametrize("collector", [EnvironCollector, ScopeCollector])
def test_a_line_without_a_colon_is_refused_though_it_is_a_known_name(collector: type[Collector]) -> None:
    reader = RequestReader(Profile(HttpLimits(), collector, RememberedFields))
    for _ in range(3):
        with pytest.raises(Refusal, match="400"):
            reader.feed(b"GET / HTTP/1.1\r\nHost: h\r\nCookie: " + 300 * b"a" + b"\r\nAccept\r\n\r\n")


def test_what_is_remembered_is_bounded() -> None:
    profile = Profile(HttpLimits(), EnvironCollector, RememberedFields)
    reader = RequestReader(profile)
    for number in range(3000):
        raw = b"GET /%d HTTP/1.1\r\nHost: h%d\r\nX-%d: y\r\n\r\n" % (number, number, number)
        assert reader.feed(raw)
        assert reader.feed(raw)
    assert len(profile.lines) <= 512
    assert len(profile.blocks) <= 256
    big = b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 4000 + b"\r\n\r\n"
    assert reader.feed(big)
    assert big.partition(b"\r\n")[2] not in profile.blocks


def test_underscored_names_are_dropped() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: h\r\nX_Y: 1\r\nContent_Length: 9\r\n\r\n"
    fields = read(raw).fields
    assert fields.headers == {"HTTP_HOST": "h"}
    assert fields.content_length is None


def test_a_limit_of_nothing_is_that_of_the_head() -> None:
    limits = HttpLimits(limit_request_line=0, limit_request_field_size=0, max_body=0, limit_request_head=200_000)
    of_head = dataclasses.asdict(limits.effective())
    line = b"GET /" + b"a" * 150_000 + b" HTTP/1.1\r\n"
    assert read(line + b"Host: h\r\n\r\n", **of_head).line.method == "GET"
    assert read(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 150_000 + b"\r\n\r\n", **of_head).fields.host == b"h"
    assert refused(b"GET /" + b"a" * 200_001 + b" HTTP/1.1\r\nHost: h\r\n\r\n", **of_head) == 414
    assert refused(line + b"Host: h\r\nX: " + b"a" * 60_000 + b"\r\n\r\n", **of_head) == 431
    body = read(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999999\r\n\r\n")
    assert body_reader(body.fields, limits.effective()) is not None


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"limit_request_line": 10}, 414),
        ({"limit_request_head": 30}, 431),
        ({"limit_request_field_size": 6}, 431),
        ({"limit_request_fields": 1}, 431),
    ],
)
def test_each_limit_applies_to_a_whole_head(limits: dict[str, int], status: int) -> None:
    assert refused(GET, **limits) == status


@pytest.mark.parametrize("parser", [RememberedFields, LlhttpFields, H11Fields])
def test_of_two_faults_every_parser_names_the_same(parser: Callable[[Collector], FieldReader]) -> None:
    raw = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n" + b"X_Y: z\r\n" * 100
    with pytest.raises(Refusal, match="400"):
        RequestReader(Profile(HttpLimits(), EnvironCollector, parser)).feed(raw + b"\r\n")


def test_dropped_and_repeated_fields_count() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"Proxy: x\r\nX_Y: z\r\nA: b\r\n" * 3 + b"\r\n"
    assert refused(raw, limit_request_fields=9) == 431
    assert read(raw, limit_request_fields=10).fields.headers == {"HTTP_HOST": "h", "HTTP_A": "b,b,b"}


def test_body_beyond_its_limit_is_refused_at_the_head() -> None:
    limits = HttpLimits(max_body=4)
    reader = read(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
    with pytest.raises(Refusal, match="413"):
        body_reader(reader.fields, limits)


def test_a_refusal_is_not_remembered_as_good() -> None:
    reader = RequestReader(Profile(HttpLimits(), EnvironCollector, RememberedFields))
    for _ in range(3):
        with pytest.raises(Refusal, match="400 two Hosts"):
            reader.feed(b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n")
