"""How many of the connections that wait in a shared queue one worker may take: the rule, and nothing else.

Rules: pure. The connections that wait are dealt out one at a time, each to whoever has the fewest. Each worker deals
for itself and takes its own part; of several with equally few, whoever looks first takes what is not enough for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from forkserve.unix.scoreboard import State

__all__ = ["MOMENT", "Dealer", "Judge", "Queue", "Record", "part"]

MOMENT = 0.005
"""Seconds for which a sibling may be busy, or may not have come, and is still expected to accept in time."""
SLACK = 32
"""A sibling with this many connections counts as having one more, with twice as many as two: where thousands come and
go, workers that are equal but for accident all accept, and none has to be told each time."""
_ACCEPTING = int(State.ACCEPTING)

Record = tuple[int, int, int, int, float, float]
"""State, generation, pid, connections, turn, full: as in docs/scoreboard.md."""


class Judge(Protocol):
    """Tells who is stuck, of those that are late; `stuck` has, by number of record, the turns in which some are."""

    stuck: dict[int, float]

    def is_stuck(self, number: int, pid: int, turn: float, now: float) -> bool:
        """Tell whether a sibling, which is late in this turn of its, is stuck."""


class Queue(NamedTuple):
    """What a worker sees of a queue: how many wait, now, and since when it has left some of them to others."""

    waiting: int
    now: float
    since: float


def part(own: int, others: Sequence[int], waiting: int, limit: int) -> int:
    """Return how many of `waiting` connections fall to a worker that has `own`, beside siblings with `others`.

    At most `limit`. Never 0 if `waiting` is not and no sibling has fewer: then there is no one to leave it to. Beyond
    that, a worker takes only what leaves enough for all to come as high: however many deal at once, what they take in
    sum is there.
    """
    counts = [count + count // SLACK for count in others]
    taken = 0
    while taken < limit:
        level = own + taken + 1
        needed = taken + 1
        for count in counts:
            if count < level:
                needed += level - count
        if needed > waiting:
            break
        taken += 1
    if not taken and waiting and limit and (not counts or min(counts) >= own):
        return 1
    return taken


class Dealer:
    """One worker's view of the deal: the number of its record and its generation.

    `full` is whether its own threads are all taken. `judge` is asked about siblings that are late.
    """

    def __init__(self, number: int, generation: int, limit: int, judge: Judge) -> None:
        self.number = number
        self.generation = generation
        self.limit = limit
        self.full = False
        self._judge = judge

    def part(self, records: Iterable[Record], own: int, queue: Queue) -> int:
        """Return how many of those that wait are ours: a fair part, else one if nobody else is free for it.

        Old generations, which are to leave, hold nobody back.
        """
        ceiling = own + min(queue.waiting, self.limit)
        fewer: list[tuple[int, Record]] = []
        number = -1
        for record in records:
            number += 1
            # Who has as many as we can come to have makes no difference.
            if record[3] < ceiling and record[0] == _ACCEPTING and record[1] >= self.generation:
                fewer.append((number, record))
        if not fewer:
            return min(queue.waiting, self.limit)
        counts = [record[3] for number, record in fewer if number != self.number]
        return part(own, counts, queue.waiting, self.limit) or self._spare(fewer, own, queue)

    def _spare(self, fewer: Iterable[tuple[int, Record]], own: int, queue: Queue) -> int:
        """Return 1 if all who have fewer are busy for longer than a moment.

        With its threads all taken a sibling is no worse than we are if ours are.
        """
        now, judge = queue.now, self._judge
        for number, (_, _, pid, count, turn, full) in fewer:
            if count >= own or number == self.number:
                continue
            if judge.stuck.get(number) == turn or (full > 0 and not self.full and now - full > MOMENT):
                continue
            late = now - turn > MOMENT if turn > 0 else -turn < queue.since < now - MOMENT
            if not late or not judge.is_stuck(number, pid, turn, now):
                return 0
        return 1
