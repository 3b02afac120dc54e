"""When memory runs out, one connection pays for it: every allocation of a turn fails in turn, in a real worker."""

from __future__ import annotations

import pytest

from tests.fuzz.allocations import Finding, can_starve, starve

pytestmark = pytest.mark.skipif(not can_starve(), reason="this Python has no _testcapi, which has allocations fail")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("backend", "access_log"), [("sync", True), ("asgi", False)])
def test_each_allocation_that_fails_costs_one_connection_at_most(backend: str, access_log: bool) -> None:
    *findings, count = starve(backend, access_log=access_log)
    assert [str(each) for each in findings if isinstance(each, Finding)] == []
    assert isinstance(count, int)
    assert count > 200


@pytest.mark.parametrize("pure", [False, True])
def test_half_a_head_whose_reading_failed_never_meets_the_next_request(pure: bool) -> None:
    *findings, count = starve("sync", pure=pure, only="head in pieces")
    assert [str(each) for each in findings if isinstance(each, Finding)] == []
    assert isinstance(count, int)
    assert count > 20
