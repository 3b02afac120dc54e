"""The verdict on a canary, for any figures: it is total, fair to what is the same, and never rewards what is worse."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from forkserve.supervision.figures import GenerationFigures
from forkserve.supervision.jobs.verdict import CanaryLimits, CanaryOutcome, compare
from forkserve.unix.counters import BUCKETS

COUNTS = st.lists(st.integers(0, 5000), min_size=BUCKETS, max_size=BUCKETS).map(tuple)
LIMITS = st.builds(
    CanaryLimits,
    requests=st.integers(1, 1000),
    errors=st.floats(0, 100),
    latency=st.floats(1, 100),
    memory=st.floats(1, 100),
)


@st.composite
def figures(draw: st.DrawFn) -> GenerationFigures:
    latency = draw(COUNTS)
    total = sum(latency)
    return GenerationFigures(
        generation=1,
        at=0.0,
        processes=draw(st.integers(0, 50)),
        requests=total,
        errors=draw(st.integers(0, total)),
        crashes=draw(st.integers(0, 5)),
        latency=latency,
        memory=draw(st.integers(0, 1 << 40)),
    )


@given(figures(), LIMITS)
def test_what_is_the_same_is_never_rolled_back(same: GenerationFigures, limits: CanaryLimits) -> None:
    assert compare(same, same, limits, is_over=True).outcome is CanaryOutcome.PROMOTE
    assert compare(same, same, limits, is_over=False).outcome is CanaryOutcome.OPEN


@given(figures(), figures(), LIMITS, st.booleans())
def test_there_is_always_a_verdict_with_a_reason(
    old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits, is_over: bool
) -> None:
    found = compare(old, new, limits, is_over=is_over)
    assert (found.outcome is CanaryOutcome.OPEN) == (not found.reason)
    assert found.outcome in (
        {CanaryOutcome.PROMOTE, CanaryOutcome.ROLL_BACK} if is_over else {CanaryOutcome.OPEN, CanaryOutcome.ROLL_BACK}
    )


@given(figures(), figures(), LIMITS, st.integers(0, 5000), st.integers(0, 5), st.integers(0, 1 << 40))
def test_worse_figures_never_save_a_canary(
    old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits, errors: int, crashes: int, memory: int
) -> None:
    worse = replace(
        new,
        errors=min(new.errors + errors, new.requests),
        crashes=new.crashes + crashes,
        memory=new.memory + memory,
        latency=(0, *new.latency[1:-1], new.latency[-1] + new.latency[0]),
    )
    if compare(old, new, limits, is_over=True).outcome is CanaryOutcome.ROLL_BACK:
        assert compare(old, worse, limits, is_over=True).outcome is CanaryOutcome.ROLL_BACK


@given(figures(), figures(), LIMITS)
def test_what_is_rolled_back_early_would_be_at_the_end(
    old: GenerationFigures, new: GenerationFigures, limits: CanaryLimits
) -> None:
    if compare(old, new, limits, is_over=False).outcome is CanaryOutcome.ROLL_BACK:
        assert compare(old, new, limits, is_over=True).outcome is CanaryOutcome.ROLL_BACK
