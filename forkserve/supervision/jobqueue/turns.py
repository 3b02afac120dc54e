"""Gives many watchers a job, a few at a stretch, so that hundreds of them delay no event.

Rules: jobs are submitted in the order of requests, for each watcher too: a job for one watcher alone goes behind those
that wait here for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from forkserve.errors import ControlError
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Job
from forkserve.supervision.os.loop import Loop

__all__ = ["Act", "JobTurns"]

Act = tuple[str, JobQueue, Callable[[], Completion | None]]
"""The name of a watcher, its jobs, and what is to be done for it in its turn."""

STRETCH = 0.01
"""Seconds for which a callback submits jobs, and does what was before; then signals and control have their turn."""


class JobTurns:
    """Jobs that wait to be submitted."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[JobQueue, Callable[[], None]]] = deque()
        self._is_coming = False

    @property
    def is_busy(self) -> bool:
        """True while something waits."""
        return bool(self._waiting)

    def submit_all(self, queues: Sequence[JobQueue], job: Job, result: str) -> Completion:
        """Submit a job to each; the completion is done when all are."""
        whole = Completion(text=result)
        taken: list[Completion] = []

        def take(queue: JobQueue) -> None:
            completion = Completion()
            completion.fail(ControlError(f"{queue.watcher.name}: a bug in forkserve; its log says more"))
            try:
                completion = queue.submit(job)
            finally:
                taken.append(completion)
                if len(taken) == len(queues):
                    whole.consist_of(taken)

        self.each(queues, take)
        if not queues:
            whole.succeed(result)
        return whole

    def each(self, queues: Sequence[JobQueue], act: Callable[[JobQueue], None]) -> None:
        """Call `act` with each."""
        self._waiting += [(queue, partial(act, queue)) for queue in queues]
        if not self._is_coming:
            self._take_some()

    def submit(self, queue: JobQueue, job: Job) -> Completion:
        """Submit a job to one, behind what waits for it."""
        before = [act for waiting, act in self._waiting if waiting is queue]
        if before:
            self._waiting = deque(each for each in self._waiting if each[0] is not queue)
            for act in before:
                act()
        return queue.submit(job)

    def take_all(self) -> None:
        """Submit everything that waits, at once: before this program is replaced by another."""
        while self._waiting:
            self._waiting.popleft()[1]()

    def clear(self) -> frozenset[str]:
        """Drop what waits, its completions stay open; returns the lower-case names of the watchers."""
        dropped = frozenset(queue.watcher.name.lower() for queue, _ in self._waiting)
        self._waiting.clear()
        return dropped

    def _take_some(self) -> None:
        self._is_coming = False
        enough = self._loop.began + STRETCH
        try:
            while self._waiting and self._loop.now() < enough:
                self._waiting.popleft()[1]()
        finally:  # a bug in one costs no other its turn
            if self._waiting:
                self._is_coming = True
                self._loop.call_later(0.0, self._take_some)
