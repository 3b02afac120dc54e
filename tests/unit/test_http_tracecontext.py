"""Request ids and trace contexts."""

from __future__ import annotations

import pytest

from forkserve.serving.http.tracecontext import request_id, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_a_traceparent_names_its_trace() -> None:
    assert trace_id(f" 00-{TRACE}-{SPAN}-01") == TRACE


def test_later_versions_may_have_more() -> None:
    assert trace_id(f"01-{TRACE}-{SPAN}-00-what") == TRACE


@pytest.mark.parametrize(
    "value",
    [
        None,
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
def test_a_bad_traceparent_is_ignored(value: str | None) -> None:
    assert trace_id(value) is None


def test_a_request_id_is_passed_on_only_if_harmless() -> None:
    assert request_id("abc-123", None, bytes(16)) == "abc-123"
    for bad in (None, "", "a b", "a\r\nb", "a" * 129, "ä", '"', "$(x)", "a,b"):
        assert request_id(bad, "nonsense", bytes(range(16))) == "000102030405060708090a0b0c0d0e0f"


def test_a_request_without_an_id_takes_that_of_its_trace() -> None:
    assert request_id(None, f"00-{TRACE}-{SPAN}-01", bytes(16)) == TRACE
    assert request_id("mine", f"00-{TRACE}-{SPAN}-01", bytes(16)) == "mine"
