"""The jobs of one watcher: what runs, what runs beside it, what waits, and what happens to concurrent requests.

Rules: a stop supersedes what runs and what waits. A start, which may never end, gives way to a reload or a restart that
waits behind it. Anything else waits for its turn; a change of size runs beside. After every event of the watcher each
job is advanced (`jobs.advance`), and its effects are carried out (`execution`). Nothing blocks, so a stop of ten
minutes delays only commands to the same watcher.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from forkserve.errors import ControlError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobqueue.execution import execute_effect
from forkserve.supervision.jobs.advance import (
    Job,
    JobPhase,
    Kill,
    Reload,
    Resize,
    Restart,
    RunOnce,
    SlotJob,
    Start,
    Stop,
    advance,
)
from forkserve.supervision.jobs.snapshot import WatcherSnapshot
from forkserve.supervision.views import snapshot_of
from forkserve.supervision.watcher import Watcher

__all__ = ["JobQueue", "Superseded", "Underway"]

STEPS = 1000
"""Steps that a job may take at a stretch, far more than any needs."""


class Superseded(ControlError):
    """Another job has replaced this one."""


@dataclass(slots=True)
class Underway:
    """The current state of a job, and its completion."""

    job: Job
    completion: Completion


class JobQueue:
    """The jobs of one watcher: one that runs, those beside it, and those that wait."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.current: Underway | None = None
        self.beside: list[Underway] = []
        self.waiting: deque[Underway] = deque()
        self._advancing = False

    @property
    def is_idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        return self.current is None and not self.waiting and not self.beside

    @property
    def brings_up(self) -> bool:
        """True if a job will start the watcher, and waits for no other: also a reload that has stopped it meanwhile."""
        now = None if self.current is None else self.current.job
        if isinstance(now, Start | Restart | Reload) and now.phase is not JobPhase.AWAITING:
            return True
        return any(isinstance(each.job, Start | Restart) for each in self.waiting)

    def submit(self, job: Job) -> Completion:
        """Add a job; returns its completion."""
        underway = Underway(job, Completion())
        if self.watcher.leaving and not isinstance(job, Stop):
            self._withdraw(job)
            underway.completion.fail(ControlError(f"{self.watcher.name} is no longer configured, and is stopping"))
            return underway.completion
        if isinstance(job, Resize | Kill | RunOnce | SlotJob):
            self.beside.append(underway)
        else:
            if isinstance(job, Stop):
                self.watcher.paused = False  # SIGHUP starts again what SIGWINCH has stopped, and nothing else
                self._supersede(job.name)
            self.waiting.append(underway)
        self.advance()
        return underway.completion

    def _give_way(self) -> bool:
        """Drop an unfinished start if a waiting job would replace its processes; it could wait for ever."""
        current = self.current
        if (
            current is None
            or not isinstance(current.job, Start | Restart)
            or current.job.phase is not JobPhase.STARTING
        ):
            return False
        follower = next((each.job for each in self.waiting if isinstance(each.job, Reload | Restart)), None)
        if follower is not None:
            self.current = None
            self._drop(current, follower.name)
        return follower is not None

    def _supersede(self, name: str) -> None:
        dropped = list(self.waiting)
        if self.current is not None and not isinstance(self.current.job, Stop):
            dropped.insert(0, self.current)
            self.current = None
        self.waiting.clear()
        for each in dropped:
            self._drop(each, name)

    def give_up(self, name: str) -> None:
        """Drop all jobs, for an action that leaves no watcher to do them."""
        self._supersede(name)
        beside, self.beside = self.beside, []
        for each in beside:
            self._drop(each, name)

    def _drop(self, underway: Underway, name: str) -> None:
        self._withdraw(underway.job)
        underway.completion.fail(Superseded(f"{self.watcher.name}: {underway.job.name} was superseded by {name}"))

    def _withdraw(self, job: Job) -> None:
        if not isinstance(job, Reload):
            return
        watcher = self.watcher
        watcher.templates.withdraw(job.offer)
        if job.is_trial:  # what comes next is what was before: this one has not been found good
            watcher.put_back(job.before)
            watcher.target -= job.extra

    def advance(self) -> None:
        """Advance everything that can go on; called after every event of the watcher, and reentrant."""
        if self._advancing:
            return
        self._advancing = True
        try:
            for each in tuple(self.beside):
                if self._is_over(each):
                    self.beside.remove(each)
            while self.current is not None or self.waiting:
                if self.current is None:
                    self.current = self.waiting.popleft()
                current = self.current
                if not self._is_over(current):
                    if self._give_way():
                        continue
                    return
                if self.current is current:
                    self.current = None
        finally:
            self._advancing = False

    def _is_over(self, underway: Underway) -> bool:
        """Advance one job; a bug in it makes the job fail."""
        with Barrier(self.watcher.emit, f"the {underway.job.name} of {self.watcher.name}"):
            for _ in range(STEPS):
                seen = self._snapshot(underway.job)
                found = advance(underway.job, seen)
                is_same = found.job == underway.job
                underway.job = found.job
                for effect in found.effects:
                    execute_effect(effect, self.watcher)
                if found.failed is not None:
                    underway.completion.fail(ControlError(found.failed))
                    return True
                if found.done is not None:
                    underway.completion.succeed(found.done, found.code)
                    return True
                if is_same and self._snapshot(underway.job) == seen:
                    return False
            raise RuntimeError(f"{underway.job} comes to no end")
        underway.completion.fail(ControlError(f"{self.watcher.name}: a bug in forkserve; its log says more"))
        return True

    def _snapshot(self, job: Job) -> WatcherSnapshot:
        return snapshot_of(self.watcher, job.offer if isinstance(job, Reload) else 0)
