"""The facts of supervision: every fact is one frozen event, emitted once, when it has happened.

Theory of operation. A watcher, a job or the master emits an event; subscribers (the log, the control interface) do the
rest. An event holds plain values only, so that it can be sent anywhere: `as_data` returns it as JSON values. `kind`
names it for machines (`process.ready`), `text` for people, and `level` is that of its line in the log.

Rules: pure. An event says what has happened, never what should be done about it.
"""

from __future__ import annotations

from collections.abc import Mapping

from forkserve.supervision.events.base import Event, as_data
from forkserve.supervision.events.canary import CanaryBegun, CanaryJudged
from forkserve.supervision.events.hook import HookFailed, HookSucceeded, HookVetoed
from forkserve.supervision.events.master import (
    AuxiliaryFailed,
    AuxiliaryReplaced,
    BugCaught,
    ConfigRead,
    ConfigRefused,
    ConfigWarned,
    GaveUp,
    LogsReopened,
    MasterStopped,
    OrphanFound,
    OrphansRemain,
    OrphansUnseen,
    OutputWarned,
    ReloadTakenBack,
    RestartNeeded,
    SignalReceived,
    SocketBound,
    SocketClosed,
    SocketRetired,
    StatusUnchanged,
    StopStage,
)
from forkserve.supervision.events.process import (
    Consequence,
    DeadlineMissed,
    HostStarved,
    MainPidChanged,
    NotifyRefused,
    ProbeRefused,
    ProcessAged,
    ProcessExited,
    ProcessGrown,
    ProcessReady,
    ProcessSaid,
    ProcessStarted,
    ProcessStuck,
    SpawnFailed,
    StopRequested,
)
from forkserve.supervision.events.timer import ClockSetBack, RunBegun, RunEnded, RunSkipped, RunsMissed, RunTimedOut
from forkserve.supervision.events.upgrade import MasterSucceeded, UpgradeBegun, Upgraded, UpgradeFailed
from forkserve.supervision.events.watcher import (
    DependencyLost,
    PauseOver,
    ReaderNotStarted,
    ReloadBegun,
    ReloadDone,
    ReloadFailed,
    ReloadStep,
    RequestsShed,
    SignalSent,
    WatcherAdded,
    WatcherAwaits,
    WatcherDelayed,
    WatcherHeld,
    WatcherRemoved,
    WatcherResized,
    WatcherRests,
    WatcherScaled,
    WatcherStarted,
    WatcherStopped,
    WatcherUpdated,
    WatcherWaits,
    WatcherWoken,
)
from forkserve.supervision.events.zygote import ZygoteDelayed, ZygoteFinal, ZygoteGivenUp, ZygoteNotKept, ZygoteReforked

__all__ = [
    "KINDS",
    "AuxiliaryFailed",
    "AuxiliaryReplaced",
    "BugCaught",
    "CanaryBegun",
    "CanaryJudged",
    "ClockSetBack",
    "ConfigRead",
    "ConfigRefused",
    "ConfigWarned",
    "Consequence",
    "DeadlineMissed",
    "DependencyLost",
    "Event",
    "GaveUp",
    "HookFailed",
    "HookSucceeded",
    "HookVetoed",
    "HostStarved",
    "LogsReopened",
    "MainPidChanged",
    "NotifyRefused",
    "ProbeRefused",
    "MasterStopped",
    "MasterSucceeded",
    "OrphanFound",
    "OrphansRemain",
    "OrphansUnseen",
    "OutputWarned",
    "PauseOver",
    "ReaderNotStarted",
    "ProcessAged",
    "ProcessExited",
    "ProcessGrown",
    "ProcessReady",
    "ProcessSaid",
    "ProcessStarted",
    "ProcessStuck",
    "ReloadBegun",
    "ReloadDone",
    "ReloadFailed",
    "ReloadStep",
    "ReloadTakenBack",
    "RestartNeeded",
    "RequestsShed",
    "RunBegun",
    "RunEnded",
    "RunSkipped",
    "RunTimedOut",
    "RunsMissed",
    "SignalReceived",
    "SignalSent",
    "SocketBound",
    "SocketClosed",
    "SocketRetired",
    "StatusUnchanged",
    "SpawnFailed",
    "StopRequested",
    "StopStage",
    "UpgradeBegun",
    "UpgradeFailed",
    "Upgraded",
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
    "ZygoteDelayed",
    "ZygoteFinal",
    "ZygoteGivenUp",
    "ZygoteNotKept",
    "ZygoteReforked",
    "as_data",
]


def _concrete(base: type[Event]) -> dict[str, type[Event]]:
    found = {base.kind: base} if base.kind else {}
    for each in base.__subclasses__():
        found |= _concrete(each)
    return found


KINDS: Mapping[str, type[Event]] = _concrete(Event)
"""Every event by its kind."""
