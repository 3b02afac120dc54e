"""Which process is replaced when memory passes a limit."""

from __future__ import annotations

import pytest

from forkserve.supervision.metrics.weight import Footprint, MemoryLimits, Overweight, heaviest_over

PROCESSES = [Footprint(1, 100, 50), Footprint(2, 300, 60), Footprint(3, 200, 90), Footprint(4, None, None)]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (MemoryLimits(), None),
        (MemoryLimits(rss=300, pss=90, pss_total=200), None),
        (MemoryLimits(rss=150), Overweight(2, "max_rss", 300, 150)),
        (MemoryLimits(pss=55), Overweight(3, "max_pss", 90, 55)),
        (MemoryLimits(pss_total=199), Overweight(3, "max_pss_total", 200, 199)),
        (MemoryLimits(rss=250, pss_total=1), Overweight(2, "max_rss", 300, 250)),
    ],
)
def test_the_largest_goes_first(limits: MemoryLimits, expected: Overweight | None) -> None:
    assert heaviest_over(PROCESSES, limits) == expected
    assert bool(limits) == (limits != MemoryLimits())


def test_what_is_not_known_is_not_judged() -> None:
    assert heaviest_over([], MemoryLimits(rss=1, pss=1, pss_total=1)) is None
    assert heaviest_over([Footprint(1, None, None)], MemoryLimits(rss=1, pss=1, pss_total=1)) is None
