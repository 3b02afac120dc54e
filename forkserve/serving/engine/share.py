"""Accepting from a queue that others accept from, too, so that connections are spread evenly.

Theory of operation. A worker with no more connections than its siblings stands at the queue: its listeners are watched
with EPOLLEXCLUSIVE, level-triggered, and the kernel wakes one of those who stand there and wait. A worker with more
stands aside: edge-triggered and not exclusive, so each arrival wakes it, once. It looks at the scoreboard, and leaves
what others are free to take; only then it sets a timer, and looks again. So nothing waits behind a worker that is
stuck, and nobody wakes up without an arrival.

The kernel may wake who should not accept: siblings have lost connections since it looked. It leaves the queue and rings
the bell, so that all look. The master rings when a process has begun or ended: what was woken may have died of it.

Rules: `fairness` decides. Where we stand is looked at when our number of connections has changed, and one turn later
when it has risen: a connection that is closed by then, as where each request has one of its own, moves nobody.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from forkserve.serving.engine import timerfd
from forkserve.serving.engine.connection import READABLE
from forkserve.serving.engine.excuses import Excuses
from forkserve.serving.engine.fairness import PATIENCE, Dealer, Queue, Record
from forkserve.serving.engine.listening import ACCEPTS, Listening
from forkserve.unix.scoreboard import RECORD, Field, Seat, State

if TYPE_CHECKING:
    from forkserve.serving.engine.sockets import Sockets

__all__ = ["TURN", "UNSEEN", "Share"]

TURN = int(Field.TURN)
_STATE, _CONNECTIONS = int(Field.STATE), int(Field.CONNECTIONS)
UNSEEN: MutableSequence[float] | memoryview[float] = [0.0] * RECORD
"""A record that nobody looks at, for who has no siblings: cheaper than to ask each time."""
TICK = 0.002
"""Seconds until a worker looks again at what it has left to others."""
DOUBT = 0.1
"""Seconds between rings for those who seem to be stuck and may not be."""


class Share:
    """One worker's part in a queue."""

    def __init__(self, driver: Sockets, seat: Seat) -> None:
        self.driver = driver
        self.seat = seat
        self.siblings = 0
        self.aside = False
        self._armed = False
        self._rung = 0.0
        self._left: dict[int, float] = {}
        self._dealer = Dealer(seat.index, seat.words[Field.GENERATION], ACCEPTS, Excuses())
        self._timer = timerfd.create()
        driver.handlers[self._timer] = self._look_again
        driver.epoll.register(self._timer, READABLE)
        # It has been rung before, so the first turn begins with a look.
        driver.handlers[seat.bell] = self._look
        driver.epoll.register(seat.bell, READABLE | select.EPOLLET)
        driver.upkeep.on_drain.append(self._leave)
        seat.reals[TURN] = -driver.now
        seat.words[_STATE] = State.ACCEPTING

    def events(self) -> int:
        """Return how listeners are to be watched; also the sign that one is watched again after a pause."""
        if self.seat.words[_STATE] == State.PAUSED:
            self.seat.words[_STATE] = State.ACCEPTING
        return READABLE | (select.EPOLLET if self.aside else select.EPOLLEXCLUSIVE)

    def arrived(self, listening: Listening) -> None:
        """Take our part of what waits in a queue."""
        driver = self.driver
        if listening.paused_until:
            return
        if not self.siblings or driver.draining:
            driver.accept(listening)
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

    def lost(self) -> None:
        """Note that we have a connection less."""
        driver = self.driver
        self.seat.words[_CONNECTIONS] = len(driver.connections)
        if self.aside and not driver.unsettled:
            driver.unsettled = 1

    def settle(self) -> None:
        """Stand where we belong by now; called at the end of a turn."""
        driver = self.driver
        driver.unsettled -= 1
        if driver.unsettled or driver.draining:
            return
        now = time.monotonic()
        aside = not self._deal(list(self.seat.board()), Queue(1, now, now))
        if aside is not self.aside:
            self._stand(aside=aside)
            if aside and self._left:
                self._arm()
                self.seat.ring()
            else:
                self._left.clear()

    def close(self) -> None:
        """Give up what is our own."""
        os.close(self._timer)

    def _take(self, listening: Listening, limit: int) -> None:
        driver, words = self.driver, self.seat.words
        driver.accept(listening, limit)
        words[_CONNECTIONS] = len(driver.connections)
        if listening.paused_until:
            words[_STATE] = State.PAUSED
            self.seat.ring()
        driver.unsettled = 2

    def _part(self, listening: Listening, now: float) -> tuple[int, int]:
        """Return how many connections wait, and how many of them are ours."""
        # In this order: who accepts meanwhile makes too little of what waits, not too much.
        records = list(self.seat.board())
        waiting = listening.waiting()
        if not waiting:
            return 0, 0
        return waiting, self._deal(records, Queue(waiting, now, self._left.get(listening.fd, now)))

    def _deal(self, records: list[Record], queue: Queue) -> int:
        dealer = self._dealer
        taking = dealer.part(records, len(self.driver.connections), queue)
        if dealer.in_doubt and taking:
            dealer.in_doubt = False
            if queue.now - self._rung > DOUBT:
                self._rung = queue.now
                self.seat.ring()
        return taking

    def _pass_by(self, listening: Listening, now: float) -> None:
        """Leave to others what waits, but not for long."""
        self._left.setdefault(listening.fd, now)
        if self.aside:
            self._arm()
        elif not self.driver.unsettled:
            # We are told again in the next turn: if that is no better, we should not be the one who is told.
            self.driver.unsettled = 2

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            timerfd.arm(self._timer, TICK)

    def _stand(self, *, aside: bool) -> None:
        self.aside = aside
        driver = self.driver
        for listening in driver.listenings:
            if not listening.paused_until:
                # epoll_ctl(2): what was added with EPOLLEXCLUSIVE cannot be modified.
                driver.epoll.unregister(listening.fd)
                driver.watch_listener(listening)

    def _look(self) -> None:
        """See who is there, and what waits: the bell was rung."""
        driver, seat = self.driver, self.seat
        if driver.draining:
            return
        self.siblings = seat.look()
        if not self.siblings:
            driver.mark, driver.unsettled = UNSEEN, 0
            if self.aside:
                self._stand(aside=False)
            return
        if driver.mark is UNSEEN:
            driver.mark = seat.reals
            driver.mark[TURN] = driver.now
        seat.words[_CONNECTIONS] = len(driver.connections)
        for listening in driver.listenings:
            self.arrived(listening)
        driver.unsettled = driver.unsettled or 1

    def _look_again(self) -> None:
        """See what has become of that which we have left."""
        timerfd.clear(self._timer)
        self._armed = False
        for listening in self.driver.listenings:
            if listening.fd in self._left and not self.driver.draining:
                self.arrived(listening)

    def _leave(self) -> None:
        """Count for nobody any more, and leave what we were woken for to those who stay."""
        self.seat.words[_STATE] = State.DRAINING
        self.seat.ring()
