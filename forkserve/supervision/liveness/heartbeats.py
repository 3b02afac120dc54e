"""Watches the heartbeats of all workers, and logs the stacks of a stuck one before it is replaced.

Theory of operation. `heartbeat` decides; this module reads the records, rings, and acts on STUCK: it asks the worker
for its stacks (`stackreader`), emits the event with them, and kills the process, so that its slot is filled again as
after any other loss. The worker itself need not do anything.

Rules: only a worker that takes part is watched: it is ready, its record has its own pid, and it has written its
patience. While no ready process has a record there is no timer, so a master of other programs sleeps.
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
"""Lowest patience, in seconds, that is accepted. A worker writes `--timeout` and four seconds; a program that scribbles
over the board would otherwise get its siblings killed between two turns.
"""
SOON = 0.5
"""Seconds until the first check of a worker that has become ready."""
SHED_EVERY = 10.0
"""Seconds between two events about connections that workers have refused."""
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
        """Start checking."""
        self._has_begun = True
        self._check_later()

    def on_event(self, event: Event) -> None:
        """Check soon when a worker is ready: its patience may be shorter than the time until the next check."""
        if isinstance(event, ProcessReady) and self._has_begun:
            with contextlib.suppress(UnknownNameError):
                if _may_beat(self._supervisor.queue(event.watcher).watcher):
                    self._check_at(self._loop.now() + SOON)

    def _check_later(self) -> None:
        if any(map(_may_beat, self._supervisor.watchers)):
            self._check_at(self._loop.now() + LONGEST)

    def _check_at(self, instant: float) -> None:
        """Check at this instant, unless an earlier check is scheduled."""
        if self._timer is not None and self._timer.callback is not None:
            if self._timer.deadline <= instant:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(instant, self._check)

    def _check(self) -> None:
        now, wait = self._loop.now(), LONGEST
        self._timer = None
        self._check_later()  # first, so that a bug in what follows does not end the checks
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
            self._check_at(now + wait)

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
        """Report connections that workers have refused, from time to time."""
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
        """Called with the stacks of a stuck worker, which may have ended meanwhile.

        It is killed even if its loop has returned: the signal for the stacks also ends a blocked system call, and so
        would cut any long call short after each patience, without a line in the log.
        """
        if not process.is_alive or not process.is_ready:
            return
        self._supervisor.emit(ProcessStuck(**process.names(), silence=silence, stacks=stacks))
        watcher.signal(signal.SIGKILL, only=lambda each: each is process)


def _may_beat(watcher: Watcher) -> bool:
    """Tell whether a process of a watcher is ready and has a record, in which it may leave beats."""
    return any(process.record >= 0 and process.is_ready for process in watcher.processes)
