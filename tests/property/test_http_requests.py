"""Hostile and well-meant requests, made by Hypothesis."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.fields import EnvironCollector, ScopeCollector
from forkserve.serving.http.llhttp import LlhttpFields
from forkserve.serving.http.pure import H11Fields
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import Profile
from tests.support.http_corpus import cases
from tests.support.http_driving import Outcome, bytewise, drive, sliced
from tests.support.http_invariants import check_invariants
from tests.support.http_mutation import TOKENS, mutate

SEEDS = [case.raw for case in cases() if len(case.raw) < 2000]
LIGHT = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

token = st.text("!#$%&'*+-.^`|~0123456789abcXYZ", min_size=1, max_size=12)
value = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
text = value.map(lambda found: found.strip(" \t"))
special = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "content-type", "proxy"}
name = token.filter(lambda found: found.lower() not in special)
origin = st.text("abcXYZ0123456789-._~!$&'()*+,;=:@/%|^`{}\"<>[]", max_size=30).map(lambda path: "/" + path)
body = st.binary(max_size=200)
chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@given(st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join), st.integers(0, 9))
@LIGHT
def test_any_row_of_tokens_keeps_the_invariants(raw: bytes, seed: int) -> None:
    check_invariants(raw, seed)


@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS), st.integers(0, 2**32))
@LIGHT
def test_any_spoilt_request_keeps_the_invariants(raw: bytes, other: bytes, seed: int) -> None:
    check_invariants(mutate(raw, other, random.Random(seed)), seed)


@given(st.binary(max_size=300), st.integers(0, 9))
@LIGHT
def test_any_bytes_keep_the_invariants(raw: bytes, seed: int) -> None:
    check_invariants(raw, seed)


def only(outcome: Outcome) -> None:
    assert outcome.refusal is None
    assert len(outcome.served) == 1
    assert not outcome.waiting


@given(token, origin, st.lists(st.tuples(name, value), max_size=20), body)
@LIGHT
def test_a_well_formed_request_comes_through_unchanged(
    method: str, target: str, headers: list[tuple[str, str]], data: bytes
) -> None:
    if method == "CONNECT":
        return
    lines = [f"{method} {target} HTTP/1.1", "Host: h", f"Content-Length: {len(data)}"]
    lines += [f"{key}:{val}" for key, val in headers]
    outcome = check_invariants("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data)
    only(outcome)
    request = outcome.served[0]
    assert (request.method, request.target, request.body) == (method, target, data.decode("latin-1"))
    assert request.headers[2:] == [[key.lower(), val.strip(" \t")] for key, val in headers]


@given(chunks, st.lists(st.tuples(name, text), max_size=4), st.integers(0, 9))
@LIGHT
def test_chunks_come_through_as_one_body(blocks: list[bytes], trailers: list[tuple[str, str]], seed: int) -> None:
    forbidden = {"te", "range", "cookie", "trailer", "forwarded"}
    trailers = [(key, val) for key, val in trailers if key.lower() not in forbidden]
    raw = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += b"".join(b"%X\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\n"
    raw += "".join(f"{key}: {val}\r\n" for key, val in trailers).encode("latin-1") + b"\r\n"
    outcome = check_invariants(raw, seed)
    only(outcome)
    assert outcome.served[0].body == b"".join(blocks).decode("latin-1")
    assert outcome.served[0].trailers == [[key.lower(), val] for key, val in trailers]


@given(st.lists(st.sampled_from([case for case in cases() if len(case.raw) < 500]), min_size=2, max_size=4))
@LIGHT
def test_requests_in_a_row_are_what_they_are_alone(row: list[object]) -> None:
    check_invariants(b"".join(case.raw for case in row))  # type: ignore[attr-defined]


def refusal_of(fields: str, parser: type[RememberedFields | H11Fields]) -> int | None:
    raw = f"POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n".encode()
    return drive(Profile(HttpLimits(), ScopeCollector, parser), [raw]).refusal


@pytest.mark.parametrize("more", ["", "\r\nConnection: upgrade\r\nUpgrade: h2c"])
def test_every_short_row_of_transfer_codings_is_refused_alike(more: str) -> None:
    for length in range(1, 5):
        for parts in product(("chunked", "gzip", ",", "\t", " ", ";a=b"), repeat=length):
            fields = f"Transfer-Encoding: {''.join(parts)}{more}"
            assert refusal_of(fields, RememberedFields) == refusal_of(fields, H11Fields), repr(fields)


FAULTS = tuple(
    line + b"\r\n"
    for line in (
        b"Expect: 200-ok", b"Host: b", b"Content-Length: 1", b"Content-Length: 01", b"Connection: close", b"no colon",
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked", b"X Y: z", b" folded", b"X: \x00", b"\n",
        b"X: y\rZ", b"\rX: y", b"X: " + 60 * b"y", b"X: \x01" + 60 * b"y", b"X: " + 37 * b"y", b"X_Y: z", b"Proxy: x",
        b"X: " + 36 * b"y" + b"\x7f",
    )
)  # fmt: skip
LINES = tuple(
    line + b"\r\n"
    for line in (
        b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/2.0", b"\r\nPOST / HTTP/1.1", b"GET /a\\ HTTP/1.1", b"\r\n",
        b"A" * 33 + b" / HTTP/1.1", b"A" * 90 + b" / HTTP/1.1", b"GET /" + b"a" * 90 + b" HTTP/1.1",
        b"GET /" + b"a" * 90 + b"\x00 HTTP/1.1", b"GET /" + b"a" * 50 + b"\xff" + b"a" * 50 + b" HTTP/1.1",
        b"GET /" + b"a" * 46 + b" HTTP/1.1", b"GET /" + b"a" * 47 + b" HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
    )
)  # fmt: skip
FULL = [b"Host: b\r\n", *[b"Transfer-Encoding: gzip, chunked\r\n"] * 2, b"X: y\r\n", b"Host: b\r\n", b"X: y\r\n"]
"""As many fields as SMALL allows, which two Hosts make a 400; with a line of 60 bytes the head is full as well."""
SMALL = HttpLimits(limit_request_line=60, limit_request_field_size=42, limit_request_fields=6, limit_request_head=160)


@given(
    st.sampled_from(LINES),
    st.lists(st.one_of(st.sampled_from(FAULTS), st.just(b"X: y\r\n")), max_size=9),
    st.integers(0, 9),
    st.integers(0, 99),
)
@example(b"GET /" + b"a" * 46 + b" HTTP/1.1\r\n", FULL, 6, 0)
@example(b"GET /" + b"a" * 45 + b" HTTP/1.1\r\n", [*FULL, b"\rX: y\r\n"], 9, 0)
@settings(LIGHT, max_examples=1500)
def test_a_refusal_is_the_same_whole_and_in_pieces(line: bytes, fields: list[bytes], host: int, seed: int) -> None:
    fields.insert(min(host, len(fields)), b"Host: a\r\n")
    raw = line + b"".join(fields) + b"\r\n"
    for parser in (RememberedFields, LlhttpFields, H11Fields):
        ways = ([raw], bytewise(raw), sliced(raw, seed), sliced(raw, seed + 1))
        found = {drive(Profile(SMALL, EnvironCollector, parser), way).refusal for way in ways}
        assert len(found) == 1, (parser, raw)


@pytest.mark.parametrize("place", [0, 50, 100])
@pytest.mark.parametrize("fault", [b"Expect: x\r\n", b"Host: b\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"X\r\n"])
def test_too_many_fields_and_another_fault_are_told_alike(fault: bytes, place: int) -> None:
    fields = [b"Host: a\r\n"] + [b"X: y\r\n"] * 99
    fields.insert(place, fault)
    raw = b"GET / HTTP/1.1\r\n" + b"".join(fields) + b"\r\n"
    found = {
        drive(Profile(HttpLimits(), ScopeCollector, RememberedFields), way).refusal
        for way in ([raw], bytewise(raw), sliced(raw, 1))
    }
    assert len(found) == 1
    assert found <= {400, 417, 431, 501}
