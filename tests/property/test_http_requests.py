"""Hostile and well-meant requests, made by Hypothesis."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.http_corpus import cases
from tests.support.http_driving import Outcome
from tests.support.http_invariants import check_invariants
from tests.support.http_mutation import TOKENS, mutate

SEEDS = [case.raw for case in cases() if len(case.raw) < 2000]
LIGHT = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

token = st.text("!#$%&'*+-.^`|~0123456789abcXYZ", min_size=1, max_size=12)
value = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
text = value.map(lambda found: found.strip(" \t"))
special = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "content-type", "proxy"}
name = token.filter(lambda found: found.lower() not in special)
origin = st.text("abcXYZ0123456789-._~!$&'()*+,;=:@/%|^`{}\"<>\\[]", max_size=30).map(lambda path: "/" + path)
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
