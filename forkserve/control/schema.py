"""What may be asked of a master, and what it answers: plain typed data, validated by msgspec where it comes in.

Rule: nothing here knows how a message travels. HTTP carries it as JSON under `/v1/VERB`; another interface may carry
the same structures otherwise. Fields are added, never renamed: `/v1` is a promise.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = [
    "Amount",
    "Done",
    "Events",
    "HoldTarget",
    "Nothing",
    "ProcessReport",
    "ReloadTarget",
    "Selected",
    "SetOptions",
    "SignalTo",
    "SocketReport",
    "StopTarget",
    "Version",
    "Waiting",
    "WatcherReport",
]

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command without parameters."""


class Selected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watcher by name, or all of them when the name is left out."""

    watcher: str | None = None


class StopTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher, several, or all; with `waiting` false the answer comes at once, and not when the work is done."""

    watcher: str | None = None
    watchers: list[str] | None = None
    waiting: bool = True


class ReloadTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher, or all."""

    watcher: str | None = None
    waiting: bool = True


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only whether to answer when the work is done, or at once."""

    waiting: bool = True


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last events of all watchers or of one, then, with `follow`, those to come; `after` is the id of one."""

    watcher: str | None = None
    follow: bool = True
    last: Annotated[int, msgspec.Meta(ge=0)] = 0
    after: Annotated[int, msgspec.Meta(ge=0)] = 0


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many processes more or less one watcher shall have."""

    watcher: str
    count: Count = 1
    waiting: bool = True


class HoldTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All processes of a watcher, or the one of a slot."""

    watcher: str
    wid: Annotated[int | None, msgspec.Meta(description="only the process of this slot")] = None


class SetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New values for options of one watcher: all are taken, or none."""

    watcher: str
    options: dict[str, int | float | str | bool]
    waiting: bool = True


class SignalTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal by name or number for all processes of a watcher, or for one by pid or wid."""

    watcher: str
    signal: str | int
    """A name (HUP, SIGHUP) or a number."""
    pid: Annotated[int | None, msgspec.Meta(description="only to this process")] = None
    wid: Annotated[int | None, msgspec.Meta(description="only to the process of this slot")] = None


class ProcessReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process. Times in seconds, memory in bytes, cpu in percent of one core; None where it was not asked for."""

    name: str
    wid: int
    pid: int
    state: str
    uptime: float
    generation: int
    cpu: float | None = None
    memory: int | None = None
    threads: int | None = None
    fds: int | None = None
    children: int | None = None
    status: str = ""
    """What it last said of itself by STATUS= (sd_notify(3))."""


class SlotReport(msgspec.Struct, frozen=True):
    """One place of a watcher: `state` is filled, backoff, fatal or vacant, `reason` how its last process was lost.

    `retry_in` is the rest of a pause in seconds, where it is in one.
    """

    wid: int
    state: str
    reason: str
    retry_in: float | None


class WatcherReport(msgspec.Struct, frozen=True):
    """One watcher and the processes it has now; `restarts` counts those it lost and replaced since it began."""

    name: str
    state: str
    numprocesses: int
    restarts: int
    command: str
    reason: str
    """Why nothing of it runs, where something should."""
    processes: list[ProcessReport]
    generation: int
    """Counts the reloads; a process of a lower one is to be replaced."""
    slots: list[SlotReport]


class SocketReport(msgspec.Struct, frozen=True):
    """One listening socket; `address` is the real one, also where port 0 was asked for."""

    name: str
    fd: int
    address: str
    family: str
    type: str


class Version(msgspec.Struct, frozen=True):
    """Who answers: the version, the pid of the master, how long it has been up in seconds, what it is called (`--name`)
    and what it runs: its configuration file, or `command line`."""

    version: str
    pid: int
    uptime: float
    verbs: list[str]
    name: str
    source: str


class Done(msgspec.Struct, frozen=True):
    """A command was carried out, or, with `waiting` false, was begun."""

    done: bool
    message: str
