"""Request ids and trace contexts."""

from __future__ import annotations

import pytest

from forkserve.http.tracecontext import new_traceparent, parse_traceparent, request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_traceparent_is_read_and_written() -> None:
    parent = parse_traceparent(f" 00-{TRACE}-{SPAN}-01")
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.sampled) == (TRACE, SPAN, True)
    assert str(parent) == f"00-{TRACE}-{SPAN}-01"
    assert str(parent.child(b"\x01" * 8)) == f"00-{TRACE}-0101010101010101-01"


def test_later_versions_may_have_more() -> None:
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-00-what") is not None


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_bad_traceparent_is_ignored(value: str) -> None:
    assert parse_traceparent(value) is None


def test_new_traces_are_never_all_zeros() -> None:
    for random in (bytes(24), bytes(range(24))):
        assert parse_traceparent(str(new_traceparent(random, sampled=True))) is not None


def test_request_id_is_passed_on_only_if_harmless() -> None:
    assert request_id("abc-123", bytes(16)) == "abc-123"
    for bad in (None, "", "a b", "a\r\nb", "a" * 129, "ä", '"', "$(x)"):
        assert request_id(bad, bytes(range(16))) == "000102030405060708090a0b0c0d0e0f"
