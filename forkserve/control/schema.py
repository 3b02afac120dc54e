"""What may be asked of a master, and what it answers: plain typed data, validated by msgspec where it comes in.

Rule: nothing here knows how a message travels. HTTP carries it as JSON under `/v1/VERB`; another interface may carry
the same structures otherwise. Fields are added, never renamed: `/v1` is a promise.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "Adding",
    "Amount",
    "Asking",
    "Done",
    "Events",
    "HoldTarget",
    "Killing",
    "LogsOf",
    "MaintenanceSwitch",
    "Nothing",
    "OneOption",
    "OneSocket",
    "OneWatcher",
    "PauseTarget",
    "OneTimer",
    "OneToReplace",
    "ProcessReport",
    "RunReport",
    "ResumeTarget",
    "ReloadTarget",
    "Removing",
    "Selected",
    "SelectedProcess",
    "SetOptions",
    "SignalTo",
    "SocketOptionsOf",
    "SocketReport",
    "StackReport",
    "StacksFor",
    "StopTarget",
    "TimerReport",
    "Upgrade",
    "UsageReport",
    "Values",
    "Version",
    "Waiting",
    "WatcherReport",
]

Seconds = Annotated[float, msgspec.Meta(ge=0)]
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
    """A watcher, or all. Processes are replaced one after another whatever `sequential` says."""

    watcher: str | None = None
    sequential: Annotated[bool, msgspec.Meta(description="one by one, as it does anyhow")] = False
    terminate: Annotated[bool, msgspec.Meta(description="stop first, then start, as restart does")] = False
    canary: Annotated[
        Count | None,
        msgspec.Meta(description="replace this many first, compare them with the others, then go on or go back"),
    ] = None
    watch: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=86400)] | None,
        msgspec.Meta(description="seconds for which a canary is compared (30)"),
    ] = None
    waiting: bool = True


class OneToReplace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watcher."""

    watcher: str
    waiting: bool = True


class OneTimer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watcher that has a schedule."""

    watcher: str
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


class LogsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last output that is kept, all of it or `last` lines, then, with `follow`, what is written.

    Each event has `time` (seconds since 1970), `name` (web[2]), `pid`, `stream` (stdout or stderr) and `text`.
    """

    target: str | None = None
    """A watcher (web), the process of one of its slots (web[2]); all watchers when it is left out."""
    follow: bool = False
    last: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many processes more or less one watcher shall have."""

    watcher: str
    count: Count = 1
    waiting: bool = True


class HoldTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All processes of a watcher, or the one of a slot."""

    watcher: str
    wid: Annotated[int | None, msgspec.Meta(description="only the process of this slot")] = None


Values = dict[str, Any]
"""Options by name; a value as JSON has it, or as the text that a file would have."""


class PauseTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher whose new connections are to wait, for at most `max` seconds."""

    watcher: str
    max: Annotated[float, msgspec.Meta(gt=0, le=86400, description="the longest that a client may wait (30)")] = 30.0
    then: Annotated[
        Literal["shed", "resume"], msgspec.Meta(description="what comes then: shed (503, the default) or resume")
    ] = "shed"


class ResumeTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher that is to accept again."""

    watcher: str
    waiting: bool = True


class MaintenanceSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Maintenance `on`, with the absolute path of a page, or `off`; of one watcher, or of all that serve."""

    switch: Annotated[Literal["on", "off"], msgspec.Meta(description="on or off")]
    file: Annotated[str | None, msgspec.Meta(description="the page to answer with")] = None
    watcher: Annotated[str | None, msgspec.Meta(description="only this watcher")] = None
    retry_after: Annotated[int, msgspec.Meta(ge=0, description="seconds that clients are told to wait (30)")] = 30


class Upgrade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The replacement of forkserve itself; without a path, by what is installed where the running one was."""

    python: Annotated[
        str | None,
        msgspec.Meta(description="another interpreter, which has forkserve installed"),
    ] = None
    exec: Annotated[str | None, msgspec.Meta(description="another `forkserve` command, as of a new venv")] = None
    within: Annotated[
        float,
        msgspec.Meta(gt=0, le=600, description="seconds in which the new code must be ready to take over"),
    ] = 30.0
    waiting: bool = True


class SetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New values for options of one watcher: all are taken, or none.

    What takes new processes is refused while some run, unless `reload` asks for it.
    """

    watcher: str
    options: Values
    reload: Annotated[bool, msgspec.Meta(description="replace the processes one by one where it takes that")] = False
    waiting: bool = True


class Adding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher more, until the configuration is read again; with `start` its processes are started."""

    watcher: str
    cmd: str
    args: Annotated[str | None, msgspec.Meta(description="more arguments of the command")] = None
    options: Annotated[Values | None, msgspec.Meta(description="options as a section [watcher:NAME] has them")] = None
    start: Annotated[bool, msgspec.Meta(description="start it")] = False
    waiting: bool = True


class Removing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher less."""

    watcher: str
    nostop: Annotated[bool, msgspec.Meta(description="leave its processes alone; nobody looks after them then")] = False
    waiting: bool = True


class SocketOptionsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A socket, and options as a section [socket:NAME] has them."""

    socket: str
    options: Values
    waiting: bool = True


class OneSocket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A socket."""

    socket: str
    waiting: bool = True


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of one watcher, by name."""

    watcher: str
    keys: Annotated[list[str], msgspec.Meta(min_length=1)]


class OneWatcher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher."""

    watcher: str


class OneOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An option of the master, or all of them."""

    option: str | None = None


class SelectedProcess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All watchers, one, or one process of one."""

    watcher: str | None = None
    pid: int | None = None
    extended: Annotated[bool, msgspec.Meta(description="with what the hook extended_stats adds")] = False


class Killing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Processes of a watcher, or the one of a pid: sent the signal, then killed; others follow them.

    Without `signum` and `graceful_timeout` (seconds) it is stop_signal, and the graceful_timeout of the watcher.
    """

    watcher: str
    pid: int | None = None
    signum: Annotated[str | int | None, msgspec.Meta(description="instead of stop_signal")] = None
    graceful_timeout: Annotated[Seconds | None, msgspec.Meta(description="until SIGKILL")] = None
    waiting: bool = True


class SignalTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal by name or number for all processes of a watcher, or for one by pid or wid."""

    watcher: str
    signal: str | int
    """A name (HUP, SIGHUP) or a number."""
    children: Annotated[bool, msgspec.Meta(description="to the direct children instead")] = False
    recursive: Annotated[bool, msgspec.Meta(description="to all that descends from it as well")] = False
    childpid: Annotated[int | None, msgspec.Meta(description="only to this child")] = None
    pid: Annotated[int | None, msgspec.Meta(description="only to this process")] = None
    wid: Annotated[int | None, msgspec.Meta(description="only to the process of this slot")] = None


class StacksFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which processes are asked for their stacks."""

    target: str
    """A watcher (web), the process of one of its slots (web[2]), or a pid."""


class StackReport(msgspec.Struct, frozen=True):
    """One process, and the stacks of its threads, tasks and greenlets, by line."""

    name: str
    pid: int
    lines: list[str]


class UsageReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process uses: `cpu` in percent of one core, `cpu_time` and `age` in seconds, sizes in bytes: `memory` is
    the resident set, `pss` the proportional one, `virtual` all that is mapped.

    The second half is not there unless asked for closely; `pss` and `fds` neither where another user's process does not
    let us look, `children` where the kernel does not tell (CONFIG_PROC_CHILDREN). These are the direct ones, with
    theirs.
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
    zygote: bool = False
    """Whether it imports the application and forks the others (`preload`); its state is zygote once it does."""
    pss: int | None = None
    """The proportional set: of what is shared it counts a part."""
    usage: UsageReport | None = None
    """All that is known, for `stats`."""
    extended: Values | None = None
    """What the hook extended_stats adds, where that was asked for."""


class SlotReport(msgspec.Struct, frozen=True):
    """One place of a watcher: `state` is filled, backoff, fatal or vacant, `reason` how its last process was lost.

    `retry_in` is the rest of a pause in seconds, where it is in one.
    """

    wid: int
    state: str
    reason: str
    retry_in: float | None


class RunReport(msgspec.Struct, frozen=True):
    """One run of a timer that is over, `ago` seconds since: `cause` is schedule, catch-up, queued or asked, `began` in
    seconds since the epoch, `seconds` how long it took. `code` is its exit code, `signal` what ended it; None for both
    where no program ran."""

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
    from now, None while it is stopped; `running` are the numbers of the runs that go on, `queued` tells that one waits
    for these; `last` is over."""

    schedule: str
    time_zone: str
    next: float | None
    next_in: float | None
    running: list[int]
    queued: bool
    last: RunReport | None


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
    doing: str = ""
    """How far a reload is that goes on."""
    timer: TimerReport | None = None
    """Its schedule and its last run, where it has a schedule."""


class SocketReport(msgspec.Struct, frozen=True):
    """One listening socket; `address` is the real one, also where port 0 was asked for."""

    name: str
    fd: int
    address: str
    family: str
    type: str
    backlog: int = 0
    queued: int | None = None
    """Connections that wait to be accepted; None where the kernel does not tell (unix sockets)."""


class Version(msgspec.Struct, frozen=True):
    """Who answers: the version, the pid of the master, how long it has been up in seconds, what it is called (`--name`)
    and what it runs: its configuration file, or `command line`."""

    version: str
    pid: int
    uptime: float
    verbs: list[str]
    name: str
    source: str


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command was carried out, or, with `waiting` false, was begun; `exit_code` is that of a run that is over."""

    done: bool
    message: str
    exit_code: int | None = None
