"""The first start of all watchers: highest priority first, with `warmup_delay` in between, and an event at the end.

Rules: a watcher that was stopped, started or removed meanwhile is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Start
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.supervisor import Supervisor

__all__ = ["Startup"]

AT_A_TIME = 0.01
"""Seconds of starting watchers at a stretch; then signals and control have their turn."""


class Startup:
    """`waiting` are the watchers still to be started; `on_done` is called when the last has started, or failed."""

    def __init__(self, supervisor: Supervisor, loop: Loop, on_done: Callable[[], None]) -> None:
        self.waiting: list[JobQueue] = []
        self._starts: list[Completion] = []
        self._all: Completion | None = None
        self._next_at: float | None = None
        self._supervisor = supervisor
        self._loop = loop
        self._on_done = on_done

    def begin(self) -> None:
        """Start the watchers that start with forkserve."""
        ordered = [queue for group in self._supervisor.in_order() for queue in group]
        self.waiting = [queue for queue in ordered if queue.watcher.options.autostart]
        for queue in self.waiting:
            queue.watcher.awaits_start = True
        self._go_on()

    def cancel(self) -> None:
        """Start no more; started watchers go on."""
        self.waiting.clear()

    def _go_on(self) -> None:
        self._next_at = None
        delay = self._supervisor.config.master.warmup_delay
        enough = self._loop.now() + AT_A_TIME
        while self.waiting:
            queue = self.waiting.pop(0)
            if not queue.watcher.awaits_start:
                continue
            self._starts.append(queue.submit(Start()))
            if self.waiting and (delay > 0 or self._loop.now() > enough):
                self._go_on_at(self._loop.now() + delay)
                return
        self._wait_for(all_of(self._starts, "started"))

    def _go_on_at(self, instant: float) -> None:
        self._next_at = instant
        self._loop.call_at(instant, self._go_on)

    def _wait_for(self, starts: Completion) -> None:
        self._all = starts
        starts.when_done(self._done)

    def _done(self, _starts: Completion) -> None:
        self._all, self._starts = None, []
        self._on_done()

    def to_data(self, completions: CompletionWriter) -> dict[str, Any]:
        """Return its progress as plain data."""
        return {
            "waiting": [queue.watcher.name for queue in self.waiting],
            "starts": [completions.number(each) for each in self._starts],
            "all": None if self._all is None else completions.number(self._all),
            "next_at": self._next_at,
        }

    def restore(self, data: Mapping[str, Any], completions: CompletionReader) -> None:
        """Go on from the progress of another one."""
        queues = {queue.watcher.name: queue for queue in self._supervisor}
        self.waiting = [queues[name] for name in data["waiting"] if name in queues]
        self._starts = [completions[number] for number in data["starts"]]
        if data["next_at"] is not None:
            self._go_on_at(data["next_at"])
        if data["all"] is not None:
            self._wait_for(completions[data["all"]])
