"""Accepting from a queue that others accept from, too, so that connections are spread evenly.

Theory of operation. A worker with no more connections than its siblings stands at the queue: its listeners are watched
with EPOLLEXCLUSIVE, level-triggered, and the kernel wakes one of those that wait there. A worker with more stands
aside: edge-triggered and not exclusive, so each arrival wakes it once. It reads the scoreboard, and leaves what others
are free to take; only then it sets a timer, and checks again. So nothing waits behind a stuck worker, and no worker
wakes up without an arrival.

The kernel may wake a worker that should not accept: its siblings have fewer connections by now. It leaves the queue and
rings the bell, so that all check. The master rings when a process has started or ended: the kernel may have woken a
process that died.

Rules: `fairness` decides. The position is re-evaluated when the number of connections has changed, and one turn later
if it has risen: connections that live for one request do not trigger a rebalance.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any

from forkserve.serving.engine import timerfd
from forkserve.serving.engine.fairness import PATIENCE, AcceptQueue, Dealer, Record
from forkserve.serving.engine.listening import ACCEPTS, Listening
from forkserve.serving.engine.phases import READABLE
from forkserve.serving.engine.queue_policy import TURN, UNSEEN, Queues
from forkserve.serving.engine.stall import StallDetector
from forkserve.unix.scoreboard import Field, OwnRecord, RecordState

__all__ = ["FairShare"]

_STATE, _CONNECTIONS = int(Field.STATE), int(Field.CONNECTIONS)
TICK = 0.002
"""Seconds until a worker checks again what it has left to others."""
DOUBT = 0.1
"""Seconds between rings for workers that seem to be stuck but may not be."""


class FairShare:
    """One worker's share of its queues; a `QueuePolicy`."""

    def __init__(self, queues: Queues, seat: OwnRecord) -> None:
        self.turn_clock: Any = seat.reals
        self.unsettled = 0
        self._queues = queues
        self._held = queues.held
        self._seat = seat
        self._siblings = 0
        self._aside = False
        self._armed = False
        self._rung = 0.0
        self._left: dict[int, float] = {}
        self._dealer = Dealer(seat.index, seat.words[Field.GENERATION], ACCEPTS, StallDetector())
        self._timer = timerfd.create()
        loop = queues.loop
        loop.handlers[self._timer] = self._on_timer
        loop.epoll.register(self._timer, READABLE)
        # It has been rung before, so the first turn begins with a check.
        loop.handlers[seat.bell] = self._on_bell
        loop.epoll.register(seat.bell, READABLE | select.EPOLLET)
        seat.reals[TURN] = -loop.now
        seat.words[_STATE] = RecordState.ACCEPTING

    def events(self) -> int:
        """Return how listeners are watched; also called when one is watched again after a pause."""
        if self._queues.draining:
            return READABLE | select.EPOLLEXCLUSIVE
        if self._seat.words[_STATE] == RecordState.PAUSED:
            self._seat.words[_STATE] = RecordState.ACCEPTING
        return READABLE | (select.EPOLLET if self._aside else select.EPOLLEXCLUSIVE)

    def on_arrival(self, listening: Listening) -> None:
        """Take our share of what waits in a queue."""
        if listening.paused_until or self._queues.on_hold:
            return
        if not self._siblings or self._queues.draining:
            self._queues.accept(listening)
            return
        now = time.monotonic()
        for _ in range(1 if listening.counts else ACCEPTS):
            waiting, taking = self._part(listening, now)
            if not taking:
                break
            self._take(listening, taking)
            if listening.counts:
                waiting -= taking
        if not waiting:
            self._left.pop(listening.fd, None)
        elif not listening.paused_until:
            if now - self._left.get(listening.fd, now) > PATIENCE:
                self._left[listening.fd] = now
            self._pass_by(listening, now)

    def on_close(self) -> None:
        """Note that there is one connection less."""
        if self._siblings:
            self._seat.words[_CONNECTIONS] = len(self._held)
            if self._aside and not self.unsettled:
                self.unsettled = 1

    def on_drain(self) -> None:
        """Stop taking part, and leave what we were woken for to those that stay."""
        self._seat.words[_STATE] = RecordState.DRAINING
        self._seat.ring()

    def on_fork(self) -> None:
        """Stop writing to the record: it is the parent's."""
        self.turn_clock = UNSEEN

    def rebalance(self) -> None:
        """Stand at the queues or aside, according to the current number of connections."""
        self.unsettled -= 1
        if self.unsettled or self._queues.draining or self._queues.on_hold:
            return
        now = time.monotonic()
        aside = not self._deal(list(self._seat.board()), AcceptQueue(1, now, now))
        if aside is not self._aside:
            self._stand(aside=aside)
            if aside and self._left:
                self._arm()
                self._seat.ring()
            else:
                self._left.clear()

    def close(self) -> None:
        """Close the timer."""
        os.close(self._timer)

    def _take(self, listening: Listening, limit: int) -> None:
        words = self._seat.words
        self._queues.accept(listening, limit)
        words[_CONNECTIONS] = len(self._held)
        if listening.paused_until:
            words[_STATE] = RecordState.PAUSED
            self._seat.ring()
        self.unsettled = 2

    def _part(self, listening: Listening, now: float) -> tuple[int, int]:
        """Return how many connections wait, and how many of them are ours."""
        # In this order: a sibling that accepts meanwhile makes too little of what waits, not too much.
        records = list(self._seat.board())
        waiting = listening.waiting()
        if not waiting:
            return 0, 0
        return waiting, self._deal(records, AcceptQueue(waiting, now, self._left.get(listening.fd, now)))

    def _deal(self, records: list[Record], queue: AcceptQueue) -> int:
        dealer = self._dealer
        taking = dealer.part(records, len(self._held), queue)
        if dealer.in_doubt and taking:
            dealer.in_doubt = False
            if queue.now - self._rung > DOUBT:
                self._rung = queue.now
                self._seat.ring()
        return taking

    def _pass_by(self, listening: Listening, now: float) -> None:
        """Leave what waits to others, but not for long."""
        self._left.setdefault(listening.fd, now)
        if self._aside:
            self._arm()
        elif not self.unsettled:
            # epoll reports it again in the next turn; if that is no better, another worker should be woken.
            self.unsettled = 2

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            timerfd.arm(self._timer, TICK)

    def _stand(self, *, aside: bool) -> None:
        self._aside = aside
        for listening in self._queues.listenings:
            if not listening.paused_until:
                # epoll_ctl(2): what was added with EPOLLEXCLUSIVE cannot be modified.
                self._queues.loop.epoll.unregister(listening.fd)
                self._queues.watch(listening)

    def _on_bell(self) -> None:
        """Called when the bell was rung: check the siblings, and what waits."""
        queues, seat = self._queues, self._seat
        if queues.draining:
            return
        queues.obey(seat.order)
        if queues.on_hold:
            if seat.words[_STATE] != RecordState.PAUSED:
                seat.words[_STATE] = RecordState.PAUSED
                seat.ring()
            return
        self._siblings = 0 if seat.reads_alone else seat.refresh()
        if not self._siblings:
            self.unsettled = 0
            if self._aside:
                self._stand(aside=False)
            return
        seat.words[_CONNECTIONS] = len(self._held)
        for listening in queues.listenings:
            self.on_arrival(listening)
        self.unsettled = self.unsettled or 1

    def _on_timer(self) -> None:
        """Called by the timer: check what became of the connections left to others."""
        timerfd.clear(self._timer)
        self._armed = False
        for listening in self._queues.listenings:
            if listening.fd in self._left and not self._queues.draining:
                self.on_arrival(listening)
