"""One watcher as its jobs see it.

Rules: pure data, taken at one instant.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.supervision.figures import GenerationFigures
from forkserve.supervision.jobs.pace import ONE_BY_ONE, RollPace
from forkserve.supervision.jobs.verdict import CanaryVerdict
from forkserve.supervision.snapshot import SlotSnapshot, TimerSnapshot

__all__ = ["NOTHING_COMPARED", "WatcherSnapshot"]

NOTHING_COMPARED = (GenerationFigures(generation=0, at=0.0), GenerationFigures(generation=0, at=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherSnapshot:
    """One watcher as its jobs see it.

    `newest` is the highest generation so far. `processes` counts those that run, `pids` are those alive, `ready` counts
    the slots that serve; `given_up` has the number and reason of each FATAL slot. `failures` counts early deaths and
    failed starts of the current generation. `side_by_side` tells whether processes of the next command may run beside
    the current ones, `send_hup` whether SIGHUP replaces both. `rehearsed` is the result of a rehearsal: None while
    open, "" for yes. `delayed` is true while its stop waits for `drain_delay`, in seconds. `awaits` are the watchers
    that it depends on and that are not ready; `unmet` says why one of them never will be. `vetoed` is why a hook has
    stopped it. `has_started` means that every slot has begun to serve, or will not. `pace` is that of a reload, `spare`
    how many extra processes it may have for a while. `verdict` is that on a canary, None without one, and `compared`
    has the figures of the old and of the new generation. `waiting` means that no connection has started it yet,
    `leaving` that a worker of a former generation, which was told to stop, may still accept. A `timer` has no slots
    that a job could fill or replace.
    """

    name: str
    up: bool
    target: int
    generation: int
    newest: int
    is_gone: bool
    has_started: bool
    slots: tuple[SlotSnapshot, ...] = ()
    ready: int = 0
    given_up: tuple[tuple[int, str], ...] = ()
    processes: int = 0
    pids: frozenset[int] = frozenset()
    failures: int = 0
    last_failure: str = ""
    singleton: bool = False
    side_by_side: bool = True
    send_hup: bool = False
    stop_signal: int = 15
    grace: float = 30.0
    drain_delay: float = 0.0
    delayed: bool = False
    waiting: bool = False
    leaving: bool = False
    awaits: tuple[str, ...] = ()
    unmet: str = ""
    vetoed: str = ""
    rehearsed: str | None = None
    pace: RollPace = ONE_BY_ONE
    spare: int = 0
    verdict: CanaryVerdict | None = None
    compared: tuple[GenerationFigures, GenerationFigures] = NOTHING_COMPARED
    timer: TimerSnapshot | None = None
