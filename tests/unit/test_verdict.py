"""The verdict on a canary: what it is rolled back for, and what it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forkserve.supervision.figures import GenerationFigures
from forkserve.supervision.jobs.verdict import CanaryLimits, CanaryOutcome, CanaryVerdict, compare
from forkserve.unix.counters import BOUNDS, BUCKETS

LIMITS = CanaryLimits()
MIB = 1024 * 1024


def figures(
    generation: int, *, requests: int = 1000, slow: int = 0, late: float = 0.5, **more: int
) -> GenerationFigures:
    """Return figures of which all requests took up to 5 ms, but for `slow` ones, which took up to `late` seconds."""
    latency = [0] * BUCKETS
    latency[0] = requests - slow
    latency[BOUNDS.index(late)] += slow
    given: dict[str, int] = {"processes": 3 if generation == 1 else 1, "memory": 100 * MIB, **more}
    return GenerationFigures(generation=generation, at=1.0, requests=requests, latency=tuple(latency), **given)


OLD, NEW = figures(1), figures(2, requests=300)


def verdict(old: GenerationFigures = OLD, new: GenerationFigures = NEW, *, is_over: bool = True) -> CanaryVerdict:
    return compare(old, new, LIMITS, is_over=is_over)


def test_what_is_as_good_is_promoted_when_the_time_is_over_and_no_earlier() -> None:
    assert verdict(is_over=False) == CanaryVerdict(CanaryOutcome.OPEN)
    assert verdict().outcome is CanaryOutcome.PROMOTE
    assert "300 requests, 0.0% answered by 5xx (0.0% before), p99 up to 5 ms" in verdict().reason


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (replace(NEW, crashes=1), "1 crashed of 1, 0 of 3 before"),
        (replace(NEW, errors=300), "100.0% of 300 requests answered by 5xx, 0.0% before"),
        (replace(NEW, errors=20), "6.7% of 300"),
        (replace(NEW, memory=300 * MIB), "300 MiB of memory a process, 100 MiB before"),
        (figures(2, requests=300, slow=30), "p99 up to 500 ms, up to 5 ms before"),
        (figures(2, requests=300, slow=300, late=0.05), "p99 up to 50 ms, up to 5 ms before"),
    ],
)
@pytest.mark.parametrize("is_over", [True, False])
def test_what_is_worse_is_rolled_back_as_soon_as_it_is_known(
    new: GenerationFigures, reason: str, *, is_over: bool
) -> None:
    found = verdict(new=new, is_over=is_over)
    assert found.outcome is CanaryOutcome.ROLL_BACK
    assert reason in found.reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (replace(OLD, crashes=3), replace(NEW, crashes=1)),
        (replace(OLD, errors=100), replace(NEW, errors=30)),
        (OLD, replace(NEW, errors=3)),
        (OLD, replace(NEW, memory=210 * MIB)),
        (replace(OLD, memory=0), replace(NEW, memory=300 * MIB)),
        (OLD, figures(2, requests=300, slow=300, late=0.025)),
        (figures(1, slow=100, late=10.0), figures(2, requests=300, slow=300, late=10.0)),
        (figures(1, requests=10), figures(2, requests=300, slow=300)),
    ],
)
def test_what_was_so_before_or_is_within_the_limits_is_promoted(old: GenerationFigures, new: GenerationFigures) -> None:
    assert verdict(old, new).outcome is CanaryOutcome.PROMOTE


def test_few_requests_say_nothing_and_crashes_decide() -> None:
    few = figures(2, requests=49, slow=49, late=10.0, errors=49)
    assert verdict(new=few).reason == "no crash; 49 of 50 requests that its answers need"
    assert verdict(new=replace(few, crashes=1)).outcome is CanaryOutcome.ROLL_BACK
    assert compare(OLD, few, replace(LIMITS, requests=49), is_over=True).outcome is CanaryOutcome.ROLL_BACK


def test_a_share_that_may_be_chance_is_no_reason_and_more_so_while_it_is_looked_at_again_and_again() -> None:
    assert verdict(new=replace(NEW, errors=6)).outcome is CanaryOutcome.PROMOTE
    assert verdict(new=replace(NEW, errors=7)).outcome is CanaryOutcome.ROLL_BACK
    assert verdict(new=replace(NEW, errors=7), is_over=False).outcome is CanaryOutcome.OPEN
