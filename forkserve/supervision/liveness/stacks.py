"""The stacks of several processes at once, for a person who asks.

Rules: the processes are asked independently, and the answer has a part for each, whatever happens to one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from forkserve.errors import ControlError
from forkserve.supervision.liveness.stackreader import StackReader
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.process import Process
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["NamedProcess", "StacksOf", "StacksRequest", "processes_named"]

NamedProcess = tuple[Watcher, Process]


@dataclass(frozen=True, slots=True)
class StacksOf:
    """One process, and its stacks as text."""

    name: str
    pid: int
    text: str


class StacksRequest:
    """Asks all, and calls `then` once with their answers, in order."""

    def __init__(self, loop: Loop, named: Sequence[NamedProcess], then: Callable[[list[StacksOf]], None]) -> None:
        self._then = then
        self._texts: dict[int, str] = {}
        self._processes = [process for _, process in named]
        for watcher, process in named:
            StackReader(loop, watcher.processes.board).ask(process, partial(self._told, process))

    def _told(self, process: Process, text: str) -> None:
        self._texts[process.pid] = text
        if len(self._texts) == len(self._processes):
            self._then([self._of(each) for each in self._processes])

    def _of(self, process: Process) -> StacksOf:
        return StacksOf(str(process.identity), process.pid, self._texts[process.pid])


def processes_named(supervisor: Supervisor, target: str) -> list[NamedProcess]:
    """Return the living processes that `web`, `web[2]`, `web:web_02` or a pid means; raises ControlError for none."""
    if target.isdecimal():
        found = [(watcher, process) for watcher in supervisor.watchers for process in watcher.processes]
        found = [(watcher, process) for watcher, process in found if process.pid == int(target)]
    else:
        queue, wid = supervisor.place(target)
        watcher = queue.watcher
        found = [(watcher, process) for process in watcher.processes if wid in (None, process.wid)]
    living = [(watcher, process) for watcher, process in found if process.is_alive]
    if not living:
        raise ControlError(f"{target}: no such process")
    return living
