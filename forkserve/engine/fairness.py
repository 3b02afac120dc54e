"""How many of the connections that wait in a shared queue one worker may take: the rule, and nothing else.

Rules: pure. The connections that wait are dealt out one at a time, each to whoever has the fewest; of several with
equally few, whoever looks comes first. Each worker deals for itself and takes its own part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forkserve.unix.scoreboard import RECORD, Field, State

__all__ = ["MOMENT", "part", "siblings"]

MOMENT = 0.005
"""Seconds for which a sibling may be busy and is still expected to accept in time."""

SLACK = 32
"""A sibling with this many connections counts as having one more, with twice as many as two: where thousands come and
go, workers that are equal but for accident all accept, and none has to be told each time."""


def part(own: int, others: Sequence[int], waiting: int, limit: int) -> int:
    """Return how many of `waiting` connections fall to a worker that has `own`, beside siblings with `others`.

    At most `limit`. Never 0 if `waiting` is not and no sibling has fewer.
    """
    taken = 0
    counts = [count + count // SLACK for count in others]
    while taken < limit:
        level = own + taken
        # Who has fewer is filled up to our level before we get the next.
        if taken + 1 + sum(level - count for count in counts if count < level) > waiting:
            break
        taken += 1
    return taken


def siblings(
    words: Sequence[int], reals: Sequence[float], me: int, now: float, given_up: Mapping[int, float]
) -> tuple[list[int], list[int]]:
    """Return the connections of the siblings that are free to accept, and those of all that accept at all.

    `words` and `reals` are the records in use (`Seat.board_words`), `me` the number of ours, `given_up` by record the
    turn in which a sibling was last seen before it let a connection wait too long: it counts again when it has begun
    another. A sibling whose threads are all taken is no worse than we are if ours are. Old generations, which are to
    leave, hold nobody back.
    """
    free: list[int] = []
    everyone: list[int] = []
    mine = me * RECORD
    generation = words[mine + _GENERATION]
    full_here = reals[mine + _FULL] > 0
    for base in range(0, len(words), RECORD):
        if words[base] != _ACCEPTING or base == mine or words[base + _GENERATION] < generation:
            continue
        count = words[base + _CONNECTIONS]
        everyone.append(count)
        turn, full = reals[base + _TURN], reals[base + _FULL]
        late = now - turn > MOMENT if turn > 0 else given_up.get(base // RECORD) == turn
        if not late and (full_here or full == 0 or now - full <= MOMENT):
            free.append(count)
    return free, everyone


_GENERATION, _CONNECTIONS, _TURN, _FULL = map(int, (Field.GENERATION, Field.CONNECTIONS, Field.TURN, Field.FULL))
_ACCEPTING = int(State.ACCEPTING)
