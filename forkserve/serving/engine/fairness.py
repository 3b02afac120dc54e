"""How many of the connections that wait in a shared queue one worker may take: the rule, and nothing else.

Rules: pure. Waiting connections are assigned one at a time, each to the worker with the fewest. Each worker computes
this by itself and takes its own share; of several with equally few, the first to check takes what does not suffice for
all.

The records are written by other processes, which may be broken. A record with impossible numbers is ignored, and what
has been left to others for longer than PATIENCE is taken, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from forkserve.unix.scoreboard import RecordState

__all__ = ["MOMENT", "PATIENCE", "Dealer", "Judge", "AcceptQueue", "Record", "part"]

MOMENT = 0.005
"""Seconds for which a sibling may be busy, or may not have responded, and is still expected to accept in time."""
PATIENCE = 0.5
"""Seconds for which connections may wait for a sibling that seems free and does not accept."""
AHEAD = 1.0
"""Seconds by which an instant in a record may lie in our future: it was written after we read the clock."""
SLACK = 32
"""A sibling with this many connections counts as having one more, with twice as many as two: where thousands come and
go, workers that differ only by chance all accept, and none has to be notified each time.
"""
_ACCEPTING = int(RecordState.ACCEPTING)

Record = tuple[int, int, int, int, float, float]
"""State, generation, pid, connections, turn, full: as in docs/scoreboard.md."""


class Judge(Protocol):
    """Tells which of the late workers are stuck; `stuck` has, by number of record, the turns in which they are."""

    stuck: dict[int, float]

    def is_stuck(self, number: int, pid: int, turn: float, now: float) -> bool:
        """Tell whether a sibling, which is late in this turn, is stuck."""


class AcceptQueue(NamedTuple):
    """What a worker sees of a queue: how many wait, the current time, and since when it has left some of them to
    others.
    """

    waiting: int
    now: float
    since: float


def part(own: int, others: Sequence[int], waiting: int, limit: int) -> int:
    """Return how many of `waiting` connections go to a worker that has `own`, beside siblings with `others`.

    At most `limit`. Never 0 if `waiting` is not and no sibling has fewer: then there is none to leave it to. Beyond
    that, a worker takes only what leaves enough for all others to reach the same number: however many compute at once,
    the sum of their shares is available.
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
    """One worker's view of the assignment: the number of its record and its generation.

    `judge` is asked about late siblings. `in_doubt` becomes true when one was skipped whose loop waits: it may have
    recovered without having been notified since.
    """

    def __init__(self, number: int, generation: int, limit: int, judge: Judge) -> None:
        self.number = number
        self.generation = generation
        self.limit = limit
        self.in_doubt = False
        self._judge = judge

    def part(self, records: Sequence[Record], own: int, queue: AcceptQueue) -> int:
        """Return how many waiting connections are ours: a fair share, else one if no other worker is free for it.

        0 while our threads are all busy and another worker's are not. Old generations, which are about to stop, are
        ignored.
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
        """Return 1 if all workers with fewer have been busy for longer than a moment: in a turn or in all their
        threads.
        """
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
    """Tell whether a process can have written this in good faith; NaN is not an instant."""
    return record[3] >= 0 and -now - AHEAD <= record[4] <= now + AHEAD


def _is_late(turn: float, queue: AcceptQueue) -> bool:
    """Tell whether a loop has been in its turn for too long, or has not begun one since a connection was left to it."""
    return queue.now - turn > MOMENT if turn > 0 else -turn < queue.since < queue.now - MOMENT
