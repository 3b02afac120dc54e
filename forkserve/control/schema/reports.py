"""The answers of a master: watchers, processes, sockets, runs and stacks at one instant."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "Done",
    "ProcessReport",
    "RunReport",
    "SlotReport",
    "SocketReport",
    "StackReport",
    "TimerReport",
    "UsageReport",
    "Version",
    "WatcherReport",
]


class StackReport(msgspec.Struct, frozen=True):
    """One process, and the stacks of its threads, tasks and greenlets, by line."""

    name: str
    pid: int
    lines: list[str]


class UsageReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process uses: `cpu` in percent of one core, `cpu_time` and `age` in seconds, sizes in bytes: `memory` is
    the resident set, `pss` the proportional one, `virtual` all that is mapped.

    The second half is missing unless `stats` asks for it; `pss` and `fds` are also missing if another user's process is
    not readable, `children` if the kernel does not tell (CONFIG_PROC_CHILDREN). These are the direct ones, with theirs.
    """

    pid: int
    cpu: float
    memory: int
    threads: int
    age: float
    cpu_time: float
    virtual: int
    nice: int
    pss: int | None = None
    fds: int | None = None
    program: str | None = None
    user: str | None = None
    children: list[UsageReport] | None = None
    name: str = ""


class ProcessReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process. Times in seconds, memory in bytes, cpu in percent of one core; None if not requested."""

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
    """Its last STATUS= (sd_notify(3))."""
    zygote: bool = False
    """Whether it imports the application and forks the others (`preload`); its state is zygote once it does."""
    adopted: bool = False
    """Whether a master that was killed has started it (`on_master_death`)."""
    pss: int | None = None
    """The proportional set: shared pages count in part."""
    usage: UsageReport | None = None
    """Everything known, for `stats`."""
    circus_wid: int | None = None
    """The value of `$(circus.wid)` for it, if that is not `wid`: it has started beside its predecessor."""
    extended: dict[str, Any] | None = None
    """What the hook extended_stats adds, if requested."""


class SlotReport(msgspec.Struct, frozen=True):
    """One place of a watcher: `state` is filled, backoff, fatal or vacant, `reason` how its last process was lost.

    `retry_in` is the rest of a pause in seconds, if there is one; `name` is what its process is called,
    `stopped` that it alone was stopped.
    """

    wid: int
    state: str
    reason: str
    retry_in: float | None
    name: str = ""
    stopped: bool = False


class RunReport(msgspec.Struct, frozen=True):
    """One run of a timer that ended `ago` seconds ago: `cause` is schedule, catch-up, queued or asked, `began` in
    seconds since the epoch, `seconds` its duration. `code` is its exit code, `signal` what ended it; both are None if
    no program ran.
    """

    run: int
    cause: str
    began: float
    seconds: float
    ago: float
    code: int | None
    signal: int | None
    text: str


class TimerReport(msgspec.Struct, frozen=True):
    """A watcher's schedule. `next` is when the next run starts, in seconds since the epoch, and `next_in` in seconds
    from now, None while it is stopped; `running` are the numbers of the current runs, `queued` means that one waits for
    these; `last` has ended.
    """

    schedule: str
    time_zone: str
    next: float | None
    next_in: float | None
    running: list[int]
    queued: bool
    last: RunReport | None


class WatcherReport(msgspec.Struct, frozen=True):
    """One watcher and its current processes; `restarts` counts those it lost and replaced since it started."""

    name: str
    state: str
    numprocesses: int
    restarts: int
    command: str
    reason: str
    """Why nothing of it runs, if something should."""
    processes: list[ProcessReport]
    generation: int
    """Counts the reloads; a process of a lower one will be replaced."""
    slots: list[SlotReport]
    doing: str = ""
    """The progress of a current reload."""
    timer: TimerReport | None = None
    """Its schedule and its last run, if it has a schedule."""


class SocketReport(msgspec.Struct, frozen=True):
    """One listening socket; `address` is the actual one, even for port 0."""

    name: str
    fd: int
    address: str
    family: str
    type: str
    backlog: int = 0
    queued: int | None = None
    """Connections that wait to be accepted; None if the kernel does not tell (unix sockets)."""


class Version(msgspec.Struct, frozen=True):
    """The answering master: version, pid, uptime in seconds, its name (`--name`) and what it runs: its configuration
    file, or `command line`.
    """

    version: str
    pid: int
    uptime: float
    verbs: list[str]
    name: str
    source: str


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command was carried out, or, with `waiting` false, was begun; `exit_code` is that of an ended run."""

    done: bool
    message: str
    exit_code: int | None = None
