"""Properties of the rule by which connections are dealt out, and cases of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserve.serving.engine.fairness import MOMENT, PATIENCE, AcceptQueue, Dealer, Record, part
from forkserve.unix.scoreboard import RecordState

NOW = 1000.0
COUNTS = st.integers(0, 40)
OTHERS = st.lists(COUNTS, max_size=8)


@dataclass
class Strict:
    """Whoever is late is stuck, unless excused."""

    excused: frozenset[int] = frozenset()
    stuck: dict[int, float] = field(default_factory=dict)

    def is_stuck(self, number: int, pid: int, turn: float, now: float) -> bool:
        return number not in self.excused


def sibling(
    connections: int = 0,
    *,
    state: RecordState = RecordState.ACCEPTING,
    generation: int = 1,
    turn: float = -NOW,
    full: float = 0.0,
) -> Record:
    return (state, generation, 1, connections, turn, full)


def ours(
    *records: Record, waiting: int = 1, since: float = NOW, judge: Strict | None = None, limit: int = 16
) -> tuple[int, Dealer]:
    """Return the part of the worker of the first record."""
    dealer = Dealer(0, records[0][1], limit, judge or Strict())
    return dealer.part(records, records[0][3], AcceptQueue(waiting, NOW, since)), dealer


@given(own=COUNTS, others=OTHERS, waiting=st.integers(0, 100), limit=st.integers(1, 16))
def test_nobody_takes_more_than_waits_or_than_a_batch(own: int, others: list[int], waiting: int, limit: int) -> None:
    assert 0 <= part(own, others, waiting, limit) <= min(waiting, limit)


@given(counts=st.lists(COUNTS, min_size=1, max_size=8), waiting=st.integers(1, 100))
def test_somebody_takes_something(counts: list[int], waiting: int) -> None:
    assert any(part(own, counts[:number] + counts[number + 1 :], waiting, 16) for number, own in enumerate(counts))


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=8), waiting=st.integers(1, 100))
def test_what_all_take_at_once_leaves_no_gap_that_was_not_there(counts: list[int], waiting: int) -> None:
    lowest = min(counts)
    parts = [part(own, counts[:number] + counts[number + 1 :], waiting, 100) for number, own in enumerate(counts)]
    for own, taking in zip(counts, parts, strict=True):
        if own > lowest:
            # All who are lower come as high by what waits.
            assert not taking or sum(max(0, own + taking - count) for count in counts) <= waiting
    fair = [taking for own, taking in zip(counts, parts, strict=True) if taking > 1 or own > lowest]
    assert sum(fair) <= waiting


@given(workers=st.integers(1, 8), arrivals=st.integers(1, 200), seed=st.integers())
def test_whoever_looks_when_all_end_up_even(workers: int, arrivals: int, seed: int) -> None:
    chance = random.Random(seed)
    counts = [0] * workers
    queue = arrivals
    while queue:
        # Some look at once and see the same, before any of them has taken its part.
        looking = chance.sample(range(workers), chance.randint(1, workers))
        wanted = {who: part(counts[who], counts[:who] + counts[who + 1 :], queue, 16) for who in looking}
        for who in looking:
            taken = min(wanted[who], queue)
            counts[who] += taken
            queue -= taken
    most = max(counts)
    # Where siblings count for more than they have, those who look at once may be ahead by what one takes at a time.
    assert most - min(counts) <= (1 if most < 32 else 16 + most // 32)


def test_with_thousands_small_differences_are_let_be() -> None:
    assert part(1030, [1000, 1010], 1, 16) == 1
    assert part(1040, [1000, 1010], 1, 16) == 0
    assert part(32, [31], 1, 16) == 0


def test_what_waits_is_left_to_who_has_fewer() -> None:
    assert ours(sibling(3), sibling(2), sibling(3))[0] == 0
    assert ours(sibling(3), sibling(3), sibling(4))[0] == 1
    assert ours(sibling(3))[0] == 1


@pytest.mark.parametrize("state", [RecordState.VACANT, RecordState.STARTING, RecordState.PAUSED, RecordState.DRAINING])
def test_who_does_not_accept_does_not_count(state: RecordState) -> None:
    assert ours(sibling(3), sibling(0, state=state))[0] == 1


def test_an_old_generation_holds_nobody_back_and_a_new_one_does() -> None:
    assert ours(sibling(3, generation=2), sibling(0, generation=1))[0] == 1
    assert ours(sibling(3, generation=1), sibling(0, generation=2))[0] == 0


def test_a_turn_that_has_just_begun_counts_as_free_and_a_long_one_does_not() -> None:
    assert ours(sibling(3), sibling(0, turn=NOW - MOMENT / 2))[0] == 0
    assert ours(sibling(3), sibling(0, turn=NOW - 2 * MOMENT))[0] == 1


def test_behind_one_who_is_busy_one_is_taken_at_a_time() -> None:
    busy = sibling(0, turn=NOW - 1)
    assert ours(sibling(3), busy, waiting=3)[0] == 1
    assert ours(sibling(0), busy, waiting=4)[0] == 2


def test_one_who_waits_and_does_not_come_is_passed_over_in_doubt() -> None:
    record = sibling(0, turn=-(NOW - 1))
    assert ours(sibling(3), record, since=NOW - MOMENT / 2)[0] == 0
    taking, dealer = ours(sibling(3), record, since=NOW - 2 * MOMENT)
    assert (taking, dealer.in_doubt) == (1, True)


def test_one_who_has_stirred_since_is_waited_for() -> None:
    assert ours(sibling(3), sibling(0, turn=-(NOW - MOMENT)), since=NOW - 2 * MOMENT)[0] == 0


def test_who_is_known_to_be_stuck_in_this_turn_costs_no_waiting() -> None:
    judge = Strict(stuck={1: -(NOW - 1)})
    assert ours(sibling(3), sibling(0, turn=-(NOW - 1)), judge=judge)[0] == 1
    assert ours(sibling(3), sibling(0, turn=-(NOW - 0.5)), judge=judge)[0] == 0


def test_who_is_late_with_an_excuse_is_waited_for() -> None:
    judge = Strict(excused=frozenset({1}))
    assert ours(sibling(3), sibling(0, turn=NOW - 1), judge=judge)[0] == 0


def test_whose_threads_are_all_taken_is_passed_over_by_who_has_one_free() -> None:
    full = NOW - 1
    assert ours(sibling(3), sibling(0, full=full))[0] == 1
    assert ours(sibling(3), sibling(0, full=NOW - MOMENT / 2))[0] == 0
    assert ours(sibling(3, full=full), sibling(0, full=full))[0] == 0


def test_who_has_no_thread_free_leaves_all_to_who_has_one() -> None:
    full = NOW - 1
    assert ours(sibling(0, full=full), sibling(9))[0] == 0
    assert ours(sibling(0, full=full), sibling(9, turn=NOW - 1))[0] == 1
    assert ours(sibling(0, full=full), sibling(9, full=full))[0] == 1


WORDS = st.integers(-(2**63), 2**63 - 1)
INSTANTS = st.floats(allow_nan=True, allow_infinity=True)
RECORDS = st.tuples(WORDS | st.just(int(RecordState.ACCEPTING)), WORDS, WORDS, WORDS, INSTANTS, INSTANTS)


@given(records=st.lists(RECORDS, min_size=1, max_size=8), own=COUNTS, waiting=st.integers(1, 100))
def test_whatever_the_records_say_something_is_taken_in_the_end(records: list[Record], own: int, waiting: int) -> None:
    dealer = Dealer(0, 1, 16, Strict(excused=frozenset(range(8))))

    assert 0 <= dealer.part(records, own, AcceptQueue(waiting, NOW, NOW)) <= min(waiting, 16)
    assert dealer.part(records, own, AcceptQueue(waiting, NOW, NOW - PATIENCE - 0.1)) > 0


@pytest.mark.parametrize(
    "impossible",
    [
        sibling(-1),
        sibling(-(2**63)),
        sibling(0, turn=float("nan")),
        sibling(0, turn=float("inf")),
        sibling(0, turn=-float("inf")),
        sibling(0, turn=NOW + 3600),
        sibling(0, turn=-NOW - 3600),
    ],
)
def test_nothing_is_left_to_a_record_that_cannot_be(impossible: Record) -> None:
    judge = Strict(excused=frozenset({1}))
    assert ours(sibling(3), impossible, judge=judge)[0] == 1
    assert ours(sibling(3, full=NOW - 1), impossible, judge=judge, since=NOW)[0] == 1
