"""Facts about one watcher: resized, stopped, its processes replaced."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from forkserve.supervision.events.base import WatcherEvent
from forkserve.wording import count_of, listed

__all__ = [
    "DependencyLost",
    "PauseOver",
    "ReaderNotStarted",
    "ReloadBegun",
    "ReloadDone",
    "ReloadFailed",
    "ReloadStep",
    "RequestsShed",
    "SignalSent",
    "WatcherAdded",
    "WatcherAwaits",
    "WatcherDelayed",
    "WatcherHeld",
    "WatcherRemoved",
    "WatcherResized",
    "WatcherRests",
    "WatcherScaled",
    "WatcherStarted",
    "WatcherStopped",
    "WatcherUpdated",
    "WatcherWaits",
    "WatcherWoken",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherAdded(WatcherEvent):
    """A configuration that was read again has a new watcher."""

    kind: ClassVar[str] = "watcher.added"
    severity: ClassVar[int] = logging.DEBUG

    def text(self) -> str:
        return f"{self.watcher} is new"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherRemoved(WatcherEvent):
    """A watcher that is no longer configured has stopped, and is forgotten."""

    kind: ClassVar[str] = "watcher.removed"
    severity: ClassVar[int] = logging.DEBUG

    def text(self) -> str:
        return f"{self.watcher} is gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherStarted(WatcherEvent):
    """A watcher was started, and all its starts have ended; `processes` are ready."""

    kind: ClassVar[str] = "watcher.started"
    severity: ClassVar[int] = logging.DEBUG
    processes: int

    def text(self) -> str:
        return f"{self.watcher}: {count_of(self.processes)} started"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherWaits(WatcherEvent):
    """A watcher with `on_demand` was started: its first process starts with the first connection."""

    kind: ClassVar[str] = "watcher.waits"

    def text(self) -> str:
        return f"{self.watcher}: waiting for a connection (on_demand)"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherWoken(WatcherEvent):
    """A connection has arrived for a waiting watcher: `processes` are started."""

    kind: ClassVar[str] = "watcher.woken"
    processes: int

    def text(self) -> str:
        return f"{self.watcher}: a connection waits, starting {count_of(self.processes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherRests(WatcherEvent):
    """A watcher with `idle_stop` was unused for `seconds`: its processes stop, and it waits for a connection."""

    kind: ClassVar[str] = "watcher.rests"
    seconds: float
    processes: int

    def text(self) -> str:
        what = f"stopping {count_of(self.processes)} until a connection waits"
        return f"{self.watcher}: not used for {self.seconds:.3g} s (idle_stop), {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherUpdated(WatcherEvent):
    """Options of a watcher were changed."""

    kind: ClassVar[str] = "watcher.updated"
    severity: ClassVar[int] = logging.DEBUG

    def text(self) -> str:
        return f"{self.watcher} has other options"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherResized(WatcherEvent):
    """The number of processes was changed."""

    kind: ClassVar[str] = "watcher.resized"
    before: int
    after: int

    def text(self) -> str:
        return f"{self.watcher}: {count_of(self.after)} wanted, was {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherDelayed(WatcherEvent):
    """A watcher is about to stop, and serves on for this many seconds (`drain_delay`) while it counts as not ready."""

    kind: ClassVar[str] = "watcher.delayed"
    seconds: float

    def text(self) -> str:
        return f"{self.watcher}: not ready any more, serves on for {self.seconds:g} s (drain_delay), then stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherAwaits(WatcherEvent):
    """A watcher is about to start, and waits for those that it depends on."""

    kind: ClassVar[str] = "watcher.awaits"
    awaited: tuple[str, ...]

    def text(self) -> str:
        return f"{self.watcher}: waits for {listed(self.awaited)} to be ready (after)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyLost(WatcherEvent):
    """A watcher that this one depends on is no longer ready; `action` is the reaction (`on_dependency`)."""

    kind: ClassVar[str] = "watcher.dependency-lost"
    severity: ClassVar[int] = logging.WARNING
    dependency: str
    action: str

    def text(self) -> str:
        return f"{self.watcher}: {self.dependency} is no longer ready: {self.action} (on_dependency)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOver(WatcherEvent):
    """A pause has reached its limit; `then` is `shed` or `resume`."""

    kind: ClassVar[str] = "watcher.pause-over"
    severity: ClassVar[int] = logging.WARNING
    then: str

    def text(self) -> str:
        what = "clients get 503" if self.then == "shed" else "clients are served again"
        return f"{self.watcher}: the pause has reached its limit: {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherHeld(WatcherEvent):
    """All its processes, or with `wid` the one of a slot, must accept nothing for now, or accept again."""

    kind: ClassVar[str] = "watcher.held"
    held: bool
    processes: int
    wid: int | None = None

    def text(self) -> str:
        who = self.watcher if self.wid is None else f"{self.watcher}[{self.wid}]"
        many = self.processes != 1
        what = f"accept{'' if many else 's'} nothing more" if self.held else f"accept{'' if many else 's'} again"
        return f"{who}: {count_of(self.processes)} {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherScaled(WatcherEvent):
    """The number of processes was changed by load; `busy` is a share of capacity, `queued` is the number that waits."""

    kind: ClassVar[str] = "watcher.scaled"
    before: int
    after: int
    busy: float
    queued: int

    def text(self) -> str:
        waiting = f", {self.queued} connections wait" if self.queued else ""
        return f"{self.watcher}: {self.after} processes instead of {self.before}: {self.busy:.0%} busy{waiting}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsShed(WatcherEvent):
    """Its workers have refused connections that waited longer than `--queue-timeout`."""

    kind: ClassVar[str] = "watcher.shed"
    severity: ClassVar[int] = logging.WARNING
    connections: int

    def text(self) -> str:
        return f"{self.watcher}: {self.connections} connections answered 503 that had waited too long (--queue-timeout)"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherStopped(WatcherEvent):
    """A watcher begins to stop (`done` false), or nothing of it is left (`done` true)."""

    kind: ClassVar[str] = "watcher.stopped"
    done: bool
    processes: int = 0
    signal: str = ""
    grace: float = 0.0

    @property
    def level(self) -> int:
        return logging.DEBUG if self.done else logging.INFO

    def text(self) -> str:
        if self.done:
            return f"{self.watcher}: stopped"
        how = f"{self.signal}, then SIGKILL after {self.grace:g} s"
        return f"{self.watcher}: stopping {count_of(self.processes)} ({how})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSent(WatcherEvent):
    """A signal went to some of its processes."""

    kind: ClassVar[str] = "watcher.signal"
    signal: str
    processes: int

    def text(self) -> str:
        return f"{self.watcher}: {self.signal} sent to {count_of(self.processes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadBegun(WatcherEvent):
    """The processes of a watcher are being replaced; `back_to` is the generation that a rollback goes back to."""

    kind: ClassVar[str] = "reload.begun"
    generation: int
    processes: int
    back_to: int = 0

    def text(self) -> str:
        back = f", back to what {self.back_to} was" if self.back_to else ""
        return f"{self.watcher}: replacing {count_of(self.processes)} one by one (generation {self.generation}{back})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStep(WatcherEvent):
    """Another process has been replaced: `replaced` of `processes`."""

    kind: ClassVar[str] = "reload.step"
    severity: ClassVar[int] = logging.DEBUG
    generation: int
    replaced: int
    processes: int

    def text(self) -> str:
        return f"{self.watcher}: {self.replaced} of {self.processes} replaced (generation {self.generation})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadDone(WatcherEvent):
    """All processes of a watcher are of the new generation; `back_to` as in `ReloadBegun`."""

    kind: ClassVar[str] = "reload.done"
    generation: int
    processes: int
    back_to: int = 0

    def text(self) -> str:
        back = f", back to what {self.back_to} was" if self.back_to else ""
        return f"{self.watcher}: {count_of(self.processes)} replaced (generation {self.generation}{back})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadFailed(WatcherEvent):
    """A reload has failed: `kept` processes were not replaced, `put_back` were and have their old command again;
    `condemned` means that the verdict on a canary is the reason.
    """

    kind: ClassVar[str] = "reload.failed"
    severity: ClassVar[int] = logging.ERROR
    generation: int
    kept: int
    put_back: int
    reason: str
    condemned: bool = False

    def text(self) -> str:
        back = f", {count_of(self.put_back)} put back" if self.put_back else ""
        return f"reload of {self.watcher} failed, {count_of(self.kept)} kept as before{back}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderNotStarted(WatcherEvent):
    """No process can be started to read what waits in a former queue."""

    kind: ClassVar[str] = "watcher.reader-not-started"
    severity: ClassVar[int] = logging.WARNING
    reason: str

    def text(self) -> str:
        return f"{self.watcher}: no process can be started for a former queue: {self.reason}"
