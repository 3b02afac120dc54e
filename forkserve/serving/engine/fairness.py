"""How many of the connections that wait in a shared queue one worker may take: the rule, and nothing else.

Rules: pure. The connections that wait are dealt out one at a time, each to the worker with the fewest. Each worker
deals for itself and takes its own part; of several with equally few, the first to look takes what does not suffice
for all.

What the records say is written by other processes, which may be broken. A record whose numbers cannot be is passed
over, and what has been left to others for longer than PATIENCE is taken, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from forkserve.unix.scoreboard import RecordState

__all__ = ["MOMENT", "PATIENCE", "Dealer", "Judge", "AcceptQueue", "Record", "part"]

MOMENT = 0.005
"""Seconds for which a sibling may be busy, or may not have come, and is still expected to accept in time."""
PATIENCE = 0.5
"""Seconds for which connections may wait for a sibling that seems free and does not come."""
AHEAD = 1.0
"""Seconds by which an instant in a record may lie ahead of ours: it was written after we looked at the clock."""
SLACK = 32
"""A sibling with this many connections counts as having one more, with twice as many as two: where thousands come and
go, workers that are equal but for accident all accept, and none has to be told each time."""
_ACCEPTING = int(RecordState.ACCEPTING)

Record = tuple[int, int, int, int, float, float]
"""State, generation, pid, connections, turn, full: as in docs/scoreboard.md."""


class Judge(Protocol):
    """Tells which of the late workers are stuck; `stuck` has, by number of record, the turns in which some are."""

    stuck: dict[int, float]

    def is_stuck(self, number: int, pid: int, turn: float, now: float) -> bool:
        """Tell whether a sibling, which is late in this turn of its, is stuck."""


class AcceptQueue(NamedTuple):
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

    `judge` is asked about siblings that are late. `in_doubt` turns true when one was passed over whose loop waits: it
    may be well again without having been told of anything since.
    """

    def __init__(self, number: int, generation: int, limit: int, judge: Judge) -> None:
        self.number = number
        self.generation = generation
        self.limit = limit
        self.in_doubt = False
        self._judge = judge

    def part(self, records: Sequence[Record], own: int, queue: AcceptQueue) -> int:
        """Return how many of those that wait are ours: a fair part, else one if nobody else is free for it.

        None while our threads are all taken and another's are not. Old generations, which are to leave, hold nobody
        back.
        """
        if queue.now - queue.since > PATIENCE:
            return min(queue.waiting, self.limit)
        full = records[self.number][5]
        if full and queue.now - full > MOMENT and self._has_free_sibling(records, queue):
            return 0
        ceiling = own + min(queue.waiting, self.limit)
        fewer: list[tuple[int, Record]] = []
        number = -1
        for record in records:
            number += 1
            # A worker with as many as we can come to have makes no difference.
            if (
                record[3] < ceiling
                and record[0] == _ACCEPTING
                and record[1] >= self.generation
                and _is_possible(record, queue.now)
            ):
                fewer.append((number, record))
        counts = [record[3] for number, record in fewer if number != self.number]
        if not counts:
            return min(queue.waiting, self.limit)
        return part(own, counts, queue.waiting, self.limit) or self._spare(fewer, own, queue, full=full > 0)

    def _has_free_sibling(self, records: Sequence[Record], queue: AcceptQueue) -> bool:
        for number, record in enumerate(records):
            state, generation, _, _, turn, full = record
            if number == self.number or state != _ACCEPTING or generation < self.generation or full:
                continue
            if not _is_possible(record, queue.now):
                continue
            if self._judge.stuck.get(number) != turn and not _is_late(turn, queue):
                return True
        return False

    def _spare(self, fewer: Iterable[tuple[int, Record]], own: int, queue: AcceptQueue, *, full: bool) -> int:
        """Return 1 if all workers with fewer are busy for longer than a moment: in a turn or in all their threads."""
        now, judge = queue.now, self._judge
        for number, (_, _, pid, count, turn, taken) in fewer:
            if count >= own or number == self.number:
                continue
            crowded = taken > 0 and not full and now - taken > MOMENT
            since = taken if crowded else turn
            if judge.stuck.get(number) != since and not (
                (crowded or _is_late(turn, queue)) and judge.is_stuck(number, pid, since, now)
            ):
                return 0
            self.in_doubt = self.in_doubt or since <= 0
        return 1


def _is_possible(record: Record, now: float) -> bool:
    """Tell whether a process can have written this in good faith; NaN is no instant."""
    return record[3] >= 0 and -now - AHEAD <= record[4] <= now + AHEAD


def _is_late(turn: float, queue: AcceptQueue) -> bool:
    """Tell whether a loop is in its turn for too long, or has not begun one since a connection was left to it."""
    return queue.now - turn > MOMENT if turn > 0 else -turn < queue.since < queue.now - MOMENT
