"""One place of a watcher: its state, its process, and how it looks from outside.

Rules: data and questions only; what happens to a slot is decided by `lifecycle` and done by `watcher`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forkserve.config.model import WatcherOptions
from forkserve.supervision.deadline import Deadline
from forkserve.supervision.lifecycle import SlotState, Tally
from forkserve.supervision.process import Process
from forkserve.supervision.snapshot import SlotSnapshot, SlotView

__all__ = ["Outlook", "Slot"]

USUAL_PATIENCE = 1.0
"""Seconds of `ready_after` that nobody need have asked for."""


@dataclass(slots=True)
class Slot:
    """One place of a watcher. `reason` is how its last occupant was lost, `finished` that it shall not come again,
    `stops_first` that its occupant has been told to stop so that a younger one may take its place, `spoke` the command
    that has said READY=1 here, `runs` how many programs have run here, `asking` whether a hook is being
    asked if it may have a process: its occupant, or with `asking_beside` its candidate."""

    wid: int
    state: SlotState = SlotState.VACANT
    tally: Tally = field(default_factory=Tally)
    occupant: Process | None = None
    candidate: Process | None = None
    retry: Deadline | None = None
    reason: str = ""
    spoke: str = ""
    runs: int = 0
    restarts: int = 0
    finished: bool = False
    stops_first: bool = False
    asking: bool = False
    asking_beside: bool = False

    @property
    def is_settled(self) -> bool:
        """True when it needs no more time to be what it will be."""
        if self.state is SlotState.FILLED:
            return not self.asking and self.candidate is None and self.occupant is not None and self.occupant.is_ready
        return self.state is SlotState.FATAL or self.finished

    @property
    def is_ready(self) -> bool:
        """True while its occupant serves."""
        return self.occupant is not None and self.occupant.is_ready

    def patience(self, options: WatcherOptions) -> float:
        """Return the seconds after which a new process that has not said READY=1 counts as ready all the same.

        That its predecessor has said it is a reason to wait longer for it, and none to kill a process that does not.
        Of a life that is to be short (`max_age`) half is enough, unless more was asked for than is usual.
        """
        if self.spoke == options.cmd:
            return max(options.ready_after, options.ready_timeout)
        is_short = 0 < options.max_age < 2 * options.ready_after <= 2 * USUAL_PATIENCE
        return options.max_age / 2 if is_short else options.ready_after

    def snapshot(self) -> SlotSnapshot:
        """Return it as a reload sees it."""
        generation = 0 if self.occupant is None else self.occupant.generation
        surging = self.candidate is not None or self.asking_beside
        starting = surging or self.asking or (self.occupant is not None and not self.occupant.is_ready)
        return SlotSnapshot(self.wid, self.state, generation, starting, surging=surging)

    def view(self, now: float) -> SlotView:
        """Return a picture of it."""
        retry_in = None
        if self.state is SlotState.BACKOFF and self.retry is not None:
            retry_in = max(0.0, self.retry.instant - now)
        return SlotView(
            self.wid, self.state, None if self.occupant is None else self.occupant.pid, retry_in, self.reason
        )


@dataclass(slots=True)
class Outlook:
    """Whether a watcher can ever start: what its first slot has learned counts for all.

    `code` is the exit code by which its program has said that it cannot (`errors.FINAL`).
    """

    was_ready: bool = False
    code: int | None = None

    def code_of(self, exit_code: int | None) -> int | None:
        """Return what an exit code says of the next start; None once something of the watcher has served."""
        return None if self.was_ready else self.code if self.code is not None else exit_code
