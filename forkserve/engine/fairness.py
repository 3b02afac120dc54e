"""How many of the connections that wait in a shared queue one worker may take: the rule, and nothing else.

Rules: pure. The connections that wait are dealt out one at a time, each to whoever has the fewest; of several with
equally few, whoever looks comes first. Each worker deals for itself and takes its own part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forkserve.unix.scoreboard import State

__all__ = ["MOMENT", "Dealer", "Record", "part"]

MOMENT = 0.005
"""Seconds for which a sibling may be busy and is still expected to accept in time."""
SLACK = 32
"""A sibling with this many connections counts as having one more, with twice as many as two: where thousands come and
go, workers that are equal but for accident all accept, and none has to be told each time."""
_ACCEPTING = int(State.ACCEPTING)

Record = tuple[int, int, int, float, float]
"""State, generation, connections, turn, full: as in docs/scoreboard.md."""


def part(own: int, others: Sequence[int], waiting: int, limit: int) -> int:
    """Return how many of `waiting` connections fall to a worker that has `own`, beside siblings with `others`.

    At most `limit`. Never 0 if `waiting` is not and no sibling has fewer.
    """
    taken, level, left = 0, own, waiting
    counts = [count + count // SLACK for count in others]
    for count in counts:
        if count < level:
            # Who has fewer is filled up to our level before we get any.
            left -= level - count
    while taken < limit and left > 0:
        taken += 1
        level += 1
        left -= 1
        for count in counts:
            if count < level:
                left -= 1
    return taken


class Dealer:
    """One worker's view of the deal: the number of its record, its generation, and whom it has given up.

    `full` is whether its own threads are all taken. `given_up` has, by number of record, the turn in which a sibling
    was last seen before it let a connection wait too long: it counts again when it has begun another.
    """

    def __init__(self, number: int, generation: int, limit: int) -> None:
        self.number = number
        self.generation = generation
        self.limit = limit
        self.full = False
        self.given_up: dict[int, float] = {}

    def part(self, records: Iterable[Record], own: int, waiting: int, now: float) -> int:
        """Return how many of those that wait are ours: a fair part, else one if nobody else is free for it.

        A sibling is not free that is in a turn for longer than a moment. With its threads all taken for longer than
        that it is no worse than we are if ours are. Old generations, which are to leave, hold nobody back.
        """
        ceiling = own - 1 + min(waiting, self.limit)
        free: list[int] = []
        everyone: list[int] = []
        number = -1
        for state, generation, count, turn, full in records:
            number += 1
            # Who has as many as we can come to have makes no difference.
            if count >= ceiling or state != _ACCEPTING or generation < self.generation or number == self.number:
                continue
            everyone.append(count)
            late = now - turn > MOMENT if turn > 0 else self.given_up.get(number) == turn
            if not late and (full == 0 or self.full or now - full <= MOMENT):
                free.append(count)
        if not everyone:
            return min(waiting, self.limit)
        return part(own, everyone, waiting, self.limit) or part(own, free, 1, 1)

    def give_up(self, records: Iterable[Record], since: float) -> None:
        """Count no more on siblings whose loop has waited all the time since then, until they stir."""
        self.given_up = {
            number: turn for number, (_, _, _, turn, _) in enumerate(records) if turn <= 0 and -turn < since
        }
