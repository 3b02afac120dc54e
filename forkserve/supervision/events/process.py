"""Facts about one process: started, ready, what it said, how it ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from forkserve.config.handover import Identity
from forkserve.supervision.events.base import WatcherEvent
from forkserve.wording import human_duration

__all__ = [
    "Consequence",
    "DeadlineMissed",
    "MainPidChanged",
    "NotifyRefused",
    "ProbeRefused",
    "ProcessAged",
    "ProcessEvent",
    "ProcessExited",
    "ProcessGrown",
    "ProcessLost",
    "ProcessReady",
    "ProcessSaid",
    "HostStarved",
    "ProcessStarted",
    "ProcessStuck",
    "SpawnFailed",
    "StopRequested",
]


class Consequence(Enum):
    """What followed from the end of a process, or from a failed start."""

    NONE = "none"
    RESTART = "restart"
    BACKOFF = "backoff"
    GIVEN_UP = "given up"
    FINISHED = "finished"
    EXPECTED = "expected"
    PREDECESSOR_STAYS = "predecessor stays"
    SUCCESSOR_STARTS = "successor starts"
    SUCCESSOR_SERVES = "successor serves"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEvent(WatcherEvent):
    """`process` is the name by `process_name`, or empty."""

    process: str = ""
    wid: int
    pid: int
    generation: int

    @property
    def name(self) -> str:
        """`web[1] pid 4711`, or `web[1]` of a process that never got a pid."""
        return self.place + (f" pid {self.pid}" if self.pid else "")

    @property
    def place(self) -> str:
        """`web[1]`, or with a `process_name` `web:web_01`."""
        return str(Identity(self.watcher, self.wid, self.process))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLost(ProcessEvent):
    """`delay` is the back-off in seconds; `failed` counts failed starts in a row, of which `max_retry` are allowed."""

    consequence: Consequence = Consequence.NONE
    delay: float = 0.0
    failed: int = 0
    max_retry: int = -1

    @property
    def level(self) -> int:
        if self.consequence is Consequence.GIVEN_UP:
            return logging.ERROR
        quiet = (Consequence.NONE, Consequence.FINISHED, Consequence.EXPECTED, Consequence.SUCCESSOR_STARTS)
        return logging.INFO if self.consequence in quiet else logging.WARNING

    def _then(self) -> str:
        if self.consequence is Consequence.BACKOFF:
            tries = f" ({self.failed} of {self.max_retry})" if self.failed and self.max_retry >= 0 else ""
            return f"; restart in {self.delay:g} s{tries}"
        if self.consequence is Consequence.GIVEN_UP:
            tries = f" after {self.failed} failed starts in a row" if self.failed > 1 else ""
            return f"; given up{tries}: fix it, then `forkservectl start {self.watcher}`"
        return _CONSEQUENCES.get(self.consequence, "")


_CONSEQUENCES: Mapping[Consequence, str] = {
    Consequence.RESTART: "; restarting",
    Consequence.FINISHED: "; it is not to be restarted (respawn is off)",
    Consequence.EXPECTED: "; it is not to be restarted (exitcodes)",
    Consequence.PREDECESSOR_STAYS: "; its predecessor stays",
    Consequence.SUCCESSOR_STARTS: "; its successor starts",
    Consequence.SUCCESSOR_SERVES: "; its successor takes its place",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStarted(ProcessEvent):
    """The program runs: exec(2) has succeeded."""

    kind: ClassVar[str] = "process.started"
    argv: tuple[str, ...]

    def text(self) -> str:
        return f"{self.name} started: {' '.join(self.argv)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MainPidChanged(ProcessEvent):
    """It has ended, and goes on as the process that it named by MAINPID= (sd_notify(3))."""

    kind: ClassVar[str] = "process.main-pid"
    main_pid: int

    def text(self) -> str:
        return f"{self.name} goes on as pid {self.main_pid}, as it has said (MAINPID)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReady(ProcessEvent):
    """It serves. `after` is the number of seconds since its start; `said` tells whether it sent READY=1 itself."""

    kind: ClassVar[str] = "process.ready"
    after: float
    said: bool

    @property
    def level(self) -> int:
        return logging.INFO if self.said else logging.DEBUG

    def text(self) -> str:
        return f"{self.name} is ready after {human_duration(self.after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSaid(ProcessEvent):
    """It sent a message of sd_notify(3): `fields` are pairs of name and value."""

    kind: ClassVar[str] = "process.said"
    severity: ClassVar[int] = logging.DEBUG
    fields: tuple[tuple[str, str], ...]

    def text(self) -> str:
        return f"{self.name} says {' '.join(f'{name}={value}' for name, value in self.fields)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExited(ProcessLost):
    """It was reaped. `how` names the code or signal, `code` or `signum` is its number; `uptime` in seconds."""

    kind: ClassVar[str] = "process.exited"
    how: str
    code: int | None
    signum: int | None
    uptime: float

    def text(self) -> str:
        return f"{self.name} {self.how} after {human_duration(self.uptime)}{self._then()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnFailed(ProcessLost):
    """A process could not be started."""

    kind: ClassVar[str] = "process.failed"
    reason: str

    def text(self) -> str:
        return f"{self.place} {self.reason}{self._then()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessAged(ProcessEvent):
    """It has reached `max_age` and is replaced. `uptime` in seconds."""

    kind: ClassVar[str] = "process.aged"
    uptime: float

    def text(self) -> str:
        return f"{self.name} is {human_duration(self.uptime)} old (max_age): replacing it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGrown(ProcessEvent):
    """It is replaced because memory has passed a limit; `measured` and `allowed` in bytes, of it alone or of all."""

    kind: ClassVar[str] = "process.grown"
    limit: str
    measured: int
    allowed: int

    def text(self) -> str:
        whose = "all processes use" if self.limit.endswith("_total") else "it uses"
        used, most = (f"{size / 2**20:.0f} MiB" for size in (self.measured, self.allowed))
        return f"{self.name}: {whose} {used}, and {self.limit} is {most}: replacing it"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(ProcessEvent):
    """It was sent its stop signal."""

    kind: ClassVar[str] = "process.stopping"
    severity: ClassVar[int] = logging.DEBUG
    signal: str

    def text(self) -> str:
        return f"{self.name} gets {self.signal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRefused(ProcessEvent):
    """Its readiness probe (`ready`) is impossible, so it will never count as ready."""

    kind: ClassVar[str] = "process.probe-refused"
    severity: ClassVar[int] = logging.WARNING
    reason: str

    def text(self) -> str:
        return f"{self.name} will not be ready: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyRefused(ProcessEvent):
    """A process has sent a message of sd_notify(3) that it may not send."""

    kind: ClassVar[str] = "process.message-refused"
    severity: ClassVar[int] = logging.WARNING
    reason: str

    def text(self) -> str:
        return f"{self.name} {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineMissed(ProcessEvent):
    """It missed a deadline, and is killed. `what` says which: "was not ready within 30 s (ready_timeout)"."""

    kind: ClassVar[str] = "process.late"
    severity: ClassVar[int] = logging.WARNING
    what: str

    def text(self) -> str:
        return f"{self.name} {self.what}: killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStuck(ProcessEvent):
    """It has given no sign of life for `silence` seconds, and is killed; `stacks` shows where it hangs."""

    kind: ClassVar[str] = "process.stuck"
    severity: ClassVar[int] = logging.ERROR
    silence: float
    stacks: str

    def text(self) -> str:
        return f"{self.name} is stuck, silent for {self.silence:g} s: killed; it was here:"

    def detail(self) -> str:
        return self.stacks


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStarved(ProcessEvent):
    """It gives no sign of life because the machine gives it no processor: it is spared."""

    kind: ClassVar[str] = "process.starved"
    severity: ClassVar[int] = logging.WARNING
    silence: float

    def text(self) -> str:
        return f"{self.name} has had no processor for most of {self.silence:g} s: the machine is too busy"
