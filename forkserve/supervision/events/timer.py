"""Facts about the runs of a timer: begun, ended, skipped, missed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import WatcherEvent
from forkserve.supervision.events.process import ProcessEvent
from forkserve.wording import human_duration

__all__ = ["ClockSetBack", "RunBegun", "RunEnded", "RunSkipped", "RunTimedOut", "RunsMissed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegun(WatcherEvent):
    """A run begins. `cause` is `schedule`, `catch-up`, `queued` or `asked`; `due` is in seconds since the epoch, `when`
    the same as text.
    """

    kind: ClassVar[str] = "timer.begun"
    run: int
    cause: str
    due: float
    when: str

    def text(self) -> str:
        why = {"asked": "asked for", "catch-up": f"for what was missed since {self.when}"}
        return f"{self.watcher}: run {self.run} begins ({why.get(self.cause, f'due {self.when}')})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(WatcherEvent):
    """A run has ended. `how` names the code or signal, `code` or `signum` is its number; `seconds` is its duration."""

    kind: ClassVar[str] = "timer.ended"
    run: int
    how: str
    code: int | None
    signum: int | None
    seconds: float

    @property
    def level(self) -> int:
        return logging.INFO if self.code == 0 else logging.WARNING

    def text(self) -> str:
        return f"{self.watcher}: run {self.run} {self.how} after {human_duration(self.seconds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSkipped(WatcherEvent):
    """A run was due while run `going_on` had been running for `seconds`; it is not made up for."""

    kind: ClassVar[str] = "timer.skipped"
    severity: ClassVar[int] = logging.WARNING
    due: float
    when: str
    going_on: int
    seconds: float
    overlap: str

    def text(self) -> str:
        busy = f"run {self.going_on} has been going on for {human_duration(self.seconds)}"
        return f"{self.watcher}: the run due {self.when} is skipped: {busy} (overlap = {self.overlap})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsMissed(WatcherEvent):
    """Runs were due while the machine slept, or its clock was set forward: `count`, at most a hundred, the first of
    them `due`.

    With `catch_up` one run makes up for them.
    """

    kind: ClassVar[str] = "timer.missed"
    severity: ClassVar[int] = logging.WARNING
    count: int
    due: float
    when: str
    catch_up: bool

    def text(self) -> str:
        what = "1 run was" if self.count == 1 else f"{self.count}{' or more' if self.count >= 100 else ''} runs were"
        then = "one run makes up for it" if self.catch_up else "not made up for (catch_up is off)"
        return f"{self.watcher}: {what} missed since {self.when}, as the clock went past; {then}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(ProcessEvent):
    """A run has exceeded `run_timeout`, in seconds, and is stopped."""

    kind: ClassVar[str] = "timer.timed-out"
    severity: ClassVar[int] = logging.WARNING
    seconds: float

    def text(self) -> str:
        return f"{self.name} has run for {human_duration(self.seconds)} (run_timeout): stopping it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSetBack(WatcherEvent):
    """The clock of the machine was set back by this many seconds; the schedule continues from the new time."""

    kind: ClassVar[str] = "timer.clock-set-back"
    severity: ClassVar[int] = logging.WARNING
    seconds: float

    def text(self) -> str:
        by = human_duration(self.seconds)
        return f"{self.watcher}: the clock was set back by {by}: its schedule begins again from now"
