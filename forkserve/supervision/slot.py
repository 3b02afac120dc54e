"""One place of a watcher: its state, its process, and how it looks from outside.

Rules: data and questions only; `lifecycle` decides what happens to a slot, and `watcher` does it.
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
"""The default of `ready_after`, in seconds."""


@dataclass(slots=True)
class Slot:
    """One place of a watcher.

    `reason` is how its last occupant was lost. `finished` means that it must not be filled again, `stopped` that this
    was requested for it alone; `stops_first`, that its occupant was told to stop so that a younger one may take its
    place. `served` remembers the generation of its occupants since one of them has served, 0 if none has since that was
    last wanted. `spoke` is the command that has sent READY=1 here, `runs` the number of programs run here. `asking`
    means that a hook is being asked whether it may have a process: its occupant, or with `asking_beside` its candidate.
    """

    wid: int
    state: SlotState = SlotState.VACANT
    tally: Tally = field(default_factory=Tally)
    occupant: Process | None = None
    candidate: Process | None = None
    retry: Deadline | None = None
    reason: str = ""
    served: int = 0
    spoke: str = ""
    runs: int = 0
    restarts: int = 0
    finished: bool = False
    stopped: bool = False
    stops_first: bool = False
    asking: bool = False
    asking_beside: bool = False

    def seat(self, process: Process | None) -> None:
        """Make a process its occupant."""
        self.occupant = process
        if process is not None and process.generation != self.served:
            self.served = 0

    def seat_candidate(self) -> Process | None:
        """Make its candidate its occupant; returns the former one."""
        predecessor, candidate, self.candidate = self.occupant, self.candidate, None
        self.seat(candidate)
        return predecessor

    def note_ready(self, process: Process) -> None:
        """Note that a process serves."""
        if process is self.occupant:
            self.served = process.generation

    def drop(self, process: Process) -> None:
        """Note that a process is no longer in it."""
        self.candidate = None if self.candidate is process else self.candidate
        self.occupant = None if self.occupant is process else self.occupant

    @property
    def serves(self) -> int:
        """The generation that serves here, or did until a process of it was lost and replaced; 0 for none."""
        return self.occupant.generation if self.occupant is not None and self.occupant.is_ready else self.served

    @property
    def has_started(self) -> bool:
        """True if it has begun to serve, or will not: it may be in the middle of a renewal."""
        if self.state is SlotState.FATAL or self.finished:
            return True
        return self.state is SlotState.FILLED and self.serves > 0

    @property
    def is_settled(self) -> bool:
        """True if its state is final until something happens."""
        if self.state is SlotState.FILLED:
            return not self.asking and self.candidate is None and self.occupant is not None and self.occupant.is_ready
        return self.state is SlotState.FATAL or self.finished

    @property
    def is_ready(self) -> bool:
        """True while its occupant serves."""
        return self.occupant is not None and self.occupant.is_ready

    def patience(self, options: WatcherOptions) -> float:
        """Return the seconds after which a new process that has not sent READY=1 counts as ready anyway.

        If its predecessor has sent it, that is a reason to wait longer, but not to kill a process that does not. With a
        short `max_age`, half of that is enough, unless `ready_after` was set.
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
        return SlotSnapshot(
            self.wid,
            self.state,
            generation,
            starting,
            surging=surging,
            finished=self.finished,
            stopped=self.stopped,
            serves=self.serves,
        )

    def view(self, name: str, now: float) -> SlotView:
        """Return a view of it."""
        retry_in = None
        if self.state is SlotState.BACKOFF and self.retry is not None:
            retry_in = max(0.0, self.retry.instant - now)
        pid = None if self.occupant is None else self.occupant.pid
        return SlotView(self.wid, name, self.state, pid, retry_in, self.reason, stopped=self.stopped)


@dataclass(slots=True)
class Outlook:
    """Whether a watcher can ever start: what its first slot has learned applies to all.

    `code` is the exit code by which its program has said that it cannot (`errors.FINAL`).
    """

    was_ready: bool = False
    code: int | None = None

    def code_of(self, exit_code: int | None) -> int | None:
        """Return what an exit code says about the next start; None once a process of the watcher has served."""
        return None if self.was_ready else self.code if self.code is not None else exit_code
