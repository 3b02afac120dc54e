"""Facts about sockets, the configuration, the master and its auxiliary processes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import Event
from forkserve.wording import listed

__all__ = [
    "AuxiliaryFailed",
    "AuxiliaryReplaced",
    "BugCaught",
    "ConfigRead",
    "ConfigRefused",
    "ConfigWarned",
    "GaveUp",
    "LogsReopened",
    "MasterStopped",
    "OrphanFound",
    "OrphansRemain",
    "OrphansUnseen",
    "OutputWarned",
    "ReloadTakenBack",
    "RestartNeeded",
    "SignalReceived",
    "SocketBound",
    "SocketClosed",
    "SocketEvent",
    "SocketRetired",
    "StatusUnchanged",
    "StopStage",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketEvent(Event):
    channel: ClassVar[str] = "socketpool"
    severity: ClassVar[int] = logging.DEBUG
    socket: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketBound(SocketEvent):
    """A socket is listening."""

    kind: ClassVar[str] = "socket.bound"
    severity: ClassVar[int] = logging.INFO

    def text(self) -> str:
        return f"socket {self.socket}: listening at {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketRetired(SocketEvent):
    """A socket is no longer configured; it stays open until its queue is empty and its readers have ended."""

    kind: ClassVar[str] = "socket.retired"

    def text(self) -> str:
        return f"socket {self.socket}: no longer configured at {self.address}, open until its readers have gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketClosed(SocketEvent):
    """A socket was closed; `reset` means that connections waited in it, and nothing was left to read them."""

    kind: ClassVar[str] = "socket.closed"
    reset: bool = False

    @property
    def level(self) -> int:
        return logging.WARNING if self.reset else logging.INFO

    def text(self) -> str:
        lost = "; what waited in it is reset, since nothing is left that reads it" if self.reset else ""
        return f"socket {self.socket}: closed at {self.address}{lost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Event):
    """The master got a signal; `meaning` is what it does about it, `heeded` whether it does anything."""

    kind: ClassVar[str] = "master.signal"
    signal: str
    meaning: str
    heeded: bool = True

    @property
    def level(self) -> int:
        return logging.INFO if self.heeded else logging.DEBUG

    def text(self) -> str:
        return f"{self.signal}: {self.meaning}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRead(Event):
    """The configuration was read again; `changes` has a line for each difference."""

    kind: ClassVar[str] = "config.read"
    channel: ClassVar[str] = "reload"
    changes: tuple[str, ...]
    by_control: bool = False
    """Whether a verb has changed it, without reading a file."""

    def text(self) -> str:
        how = "changed by control" if self.by_control else "read again"
        return f"configuration {how}: {'; '.join(self.changes) or 'nothing has changed'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRefused(Event):
    """A configuration was refused, and nothing has changed."""

    kind: ClassVar[str] = "config.refused"
    channel: ClassVar[str] = "reload"
    severity: ClassVar[int] = logging.ERROR
    reason: str

    def text(self) -> str:
        return f"reload refused, everything stays as it is: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadTakenBack(Event):
    """A change of the configuration has failed, and everything is as before: these watchers went back."""

    kind: ClassVar[str] = "reload.taken-back"
    channel: ClassVar[str] = "reload"
    severity: ClassVar[int] = logging.ERROR
    watchers: tuple[str, ...]
    reason: str

    def text(self) -> str:
        what = f" ({listed(self.watchers)})" if self.watchers else ""
        return f"the reload was taken back, the former configuration is in force{what}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartNeeded(Event):
    """An option has changed that only takes effect with a restart of forkserve."""

    kind: ClassVar[str] = "config.restart-needed"
    channel: ClassVar[str] = "reload"
    severity: ClassVar[int] = logging.WARNING
    option: str

    def text(self) -> str:
        return f"{self.option} has changed, which needs a restart of forkserve"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigWarned(Event):
    """The configuration in force is valid, but probably contains a mistake."""

    kind: ClassVar[str] = "config.warning"
    severity: ClassVar[int] = logging.WARNING
    message: str

    def text(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUnchanged(Event):
    """The status server cannot listen at its new address. `address` stays; "" if there is none."""

    kind: ClassVar[str] = "config.status-unchanged"
    severity: ClassVar[int] = logging.WARNING
    reason: str
    address: str

    def text(self) -> str:
        stays = f"{self.address} stays" if self.address else "nothing answers probes"
        return f"status_bind: {self.reason}; {stays}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsReopened(Event):
    """Every log file was opened again."""

    kind: ClassVar[str] = "master.logs-reopened"

    def text(self) -> str:
        return "log files reopened"


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp(Event):
    """Nothing is left to run: the master ends."""

    kind: ClassVar[str] = "master.gave-up"
    severity: ClassVar[int] = logging.ERROR
    reasons: tuple[str, ...]

    def text(self) -> str:
        return f"nothing is left to run, giving up: {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStage(Event):
    """The ordered stop has reached these watchers."""

    kind: ClassVar[str] = "master.stopping"
    severity: ClassVar[int] = logging.DEBUG
    watchers: tuple[str, ...]

    def text(self) -> str:
        return f"stopping {listed(self.watchers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterStopped(Event):
    """Nothing is left; the master ends."""

    kind: ClassVar[str] = "master.stopped"

    def text(self) -> str:
        return "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class BugCaught(Event):
    """An unexpected exception was caught at a barrier; `where` names the event that was dropped."""

    kind: ClassVar[str] = "bug"
    severity: ClassVar[int] = logging.ERROR
    where: str
    traceback: str

    def text(self) -> str:
        return f"a bug in forkserve, please report it; {self.where} is dropped and supervision goes on"

    def detail(self) -> str:
        return self.traceback.rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryReplaced(Event):
    """The guard or the log writer has died, and is started again `delay` seconds later."""

    kind: ClassVar[str] = "auxiliary.replaced"
    severity: ClassVar[int] = logging.WARNING
    auxiliary: str
    pid: int
    delay: float = 0.0

    def text(self) -> str:
        after = f" in {self.delay:g} s" if self.delay else ""
        return f"the {self.auxiliary} (pid {self.pid}) has died: another takes its place{after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryFailed(Event):
    """The guard or the log writer cannot be started; `effect` is the consequence."""

    kind: ClassVar[str] = "auxiliary.failed"
    severity: ClassVar[int] = logging.ERROR
    auxiliary: str
    reason: str
    effect: str

    def text(self) -> str:
        return f"no {self.auxiliary}: {self.reason}; {self.effect}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputWarned(Event):
    """The log writer cannot write captured output to its destination, or can again."""

    kind: ClassVar[str] = "output.warning"
    severity: ClassVar[int] = logging.WARNING
    message: str

    def text(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanFound(Event):
    """A process has left its group and outlived its parent: it is ended."""

    kind: ClassVar[str] = "orphan.found"
    severity: ClassVar[int] = logging.WARNING
    pid: int
    name: str

    def text(self) -> str:
        return f"pid {self.pid} ({self.name}) has left its process group: ending it"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphansUnseen(Event):
    """The master cannot read which processes are left, and will try again."""

    kind: ClassVar[str] = "orphan.unseen"
    severity: ClassVar[int] = logging.WARNING
    reason: str

    def text(self) -> str:
        return f"cannot see which processes are left: {self.reason}; trying again"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphansRemain(Event):
    """A process has left others in its group that did not stop; `survived` means that even SIGKILL had no effect."""

    kind: ClassVar[str] = "orphan.remains"
    channel: ClassVar[str] = "process"
    leader: str
    survived: bool

    @property
    def level(self) -> int:
        return logging.ERROR if self.survived else logging.WARNING

    def text(self) -> str:
        if self.survived:
            return f"{self.leader} has left processes that SIGKILL does not end"
        return f"{self.leader} has left processes that do not stop: killed"
