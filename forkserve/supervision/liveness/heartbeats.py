"""Watches the heartbeats of all workers, and has the stacks of one that is stuck logged before it is replaced.

Theory of operation. `heartbeat` judges; here are the looks, the ring, and what follows of STUCK: the worker is asked
for its stacks (`stackreader`), the fact is stated with them, and the process is killed, so that its slot is filled
again as after any other loss. Nothing is asked of it that it would have to do itself.

Rules: only a worker that takes part is watched: it is ready, its record has its own pid, and it has told its patience.
While no process that is ready has a record there is no timer, so that a master of other programs sleeps.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from functools import partial

from forkserve.errors import UnknownNameError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import Event, HostStarved, ProcessReady, ProcessStuck, RequestsShed
from forkserve.supervision.liveness.heartbeat import LONGEST, BeatVerdict, Heart, Sight, interval_of, judge
from forkserve.supervision.liveness.stackreader import StackReader
from forkserve.supervision.os.condition import condition_of
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.process import Process
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["Heartbeats"]

ACCEPTING, PAUSED = 2, 3
"""States of a record in which its process serves."""
SHORTEST_PATIENCE = 4.0
"""Seconds below which no patience is believed: what a worker tells of itself is `--timeout` and as much. A program that
scribbles over the board would else have its siblings killed between two turns."""
SOON = 0.5
"""Seconds until a worker that has become ready is looked at."""
SHED_EVERY = 10.0
"""Seconds between two facts about connections that workers have refused."""
STARVED_EVERY = 60.0
"""Seconds between two warnings that the machine is too busy."""


class Heartbeats:
    """The hearts of all workers by pid."""

    def __init__(self, supervisor: Supervisor, loop: Loop) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._hearts: dict[int, Heart] = {}
        self._timer: Timer | None = None
        self._has_begun = False
        self._starved_at = float("-inf")
        self._shed: dict[str, tuple[float, int]] = {}

    def begin(self) -> None:
        """Look from now on."""
        self._has_begun = True
        self._look_later()

    def on_event(self, event: Event) -> None:
        """Look soon when a worker is ready: its patience may be shorter than the time until the next look."""
        if isinstance(event, ProcessReady) and self._has_begun:
            with contextlib.suppress(UnknownNameError):
                if _may_beat(self._supervisor.queue(event.watcher).watcher):
                    self._look_at(self._loop.now() + SOON)

    def _look_later(self) -> None:
        if any(map(_may_beat, self._supervisor.watchers)):
            self._look_at(self._loop.now() + LONGEST)

    def _look_at(self, instant: float) -> None:
        """Look then, unless that is to be done before."""
        if self._timer is not None and self._timer.callback is not None:
            if self._timer.deadline <= instant:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(instant, self._look)

    def _look(self) -> None:
        now, wait = self._loop.now(), LONGEST
        self._timer = None
        self._look_later()  # first, so that a bug in what follows does not end the looks
        seen = set()
        for watcher in self._supervisor.watchers:
            with Barrier(self._supervisor.emit, f"the heartbeats of {watcher.name}"):
                for process, sight in self._sights(watcher):
                    seen.add(process.pid)
                    wait = min(wait, interval_of(sight.patience))
                    self._act(watcher, process, judge(self._hearts[process.pid], sight, now), sight)
                self._tell_shed(watcher, now)
        for pid in self._hearts.keys() - seen:
            del self._hearts[pid]
        if seen:
            self._look_at(now + wait)

    def _sights(self, watcher: Watcher) -> Iterator[tuple[Process, Sight]]:
        board = watcher.processes.board
        for process in watcher.processes:
            if process.record < 0 or not process.is_ready or not process.is_alive:
                continue
            state, _, pid, _, turn, _ = board.record(process.record)
            page = board.page(process.record)
            if page.shed:
                watcher.processes.count(process)
            if pid == process.pid and state in (ACCEPTING, PAUSED) and page.patience > 0:
                heart = self._hearts.setdefault(process.pid, Heart())
                beat = page.beat + turn if turn == turn else page.beat  # a NaN would be another number each time
                silent = beat == heart.beat
                patience = max(page.patience, SHORTEST_PATIENCE)
                yield process, Sight(beat, patience, condition_of(process.pid) if silent else None)

    def _act(self, watcher: Watcher, process: Process, verdict: BeatVerdict, sight: Sight) -> None:
        if verdict is BeatVerdict.RING:
            watcher.processes.board.ring()
        elif verdict is BeatVerdict.STARVED:
            self._tell_starved(process, sight)
        elif verdict is BeatVerdict.STUCK:
            reader = StackReader(self._loop, watcher.processes.board)
            reader.ask(process, partial(self._stuck, watcher, process, sight.patience))

    def _tell_shed(self, watcher: Watcher, now: float) -> None:
        """State that workers have refused connections, now and then."""
        shed = watcher.processes.figures.shed
        at, told = self._shed.get(watcher.name, (float("-inf"), 0))
        if shed > told and now - at >= SHED_EVERY:
            self._shed[watcher.name] = now, shed
            self._supervisor.emit(RequestsShed(watcher=watcher.name, connections=shed - told))

    def _tell_starved(self, process: Process, sight: Sight) -> None:
        now = self._loop.now()
        if now - self._starved_at >= STARVED_EVERY:
            self._starved_at = now
            self._supervisor.emit(HostStarved(**process.names(), silence=sight.patience))

    def _stuck(self, watcher: Watcher, process: Process, silence: float, stacks: str) -> None:
        """Called with the stacks of a worker that is stuck, which may have ended meanwhile.

        That its loop came back saves it from nothing: the signal that asks for the stacks also ends a system call that
        was waited in, and so would any long call be cut short at each patience, without a word in the log.
        """
        if not process.is_alive or not process.is_ready:
            return
        self._supervisor.emit(ProcessStuck(**process.names(), silence=silence, stacks=stacks))
        watcher.signal(signal.SIGKILL, only=lambda each: each is process)


def _may_beat(watcher: Watcher) -> bool:
    """Tell whether a process of a watcher is ready and has a record, in which it may leave beats."""
    return any(process.record >= 0 and process.is_ready for process in watcher.processes)
