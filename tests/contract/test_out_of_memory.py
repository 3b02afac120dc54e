"""When memory runs out, one connection pays for it: every allocation of a turn fails in turn, in a real worker."""

from __future__ import annotations

import pytest

from tests.fuzz.allocations import MOST, Finding, can_starve, starve

pytestmark = pytest.mark.skipif(not can_starve(), reason="this Python has no _testcapi, which has allocations fail")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["sync", "asgi"])
def test_each_allocation_that_fails_costs_one_connection_at_most(backend: str) -> None:
    *findings, count = starve(backend, range(MOST))
    assert not [str(each) for each in findings if isinstance(each, Finding)]
    assert isinstance(count, int)
    assert count > 100
