"""The parameters of each verb."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "Adding",
    "Amount",
    "Asking",
    "Events",
    "HoldTarget",
    "Killing",
    "LogsOf",
    "MaintenanceSwitch",
    "Nothing",
    "OneOption",
    "OneSocket",
    "OneTimer",
    "OneToReplace",
    "OneWatcher",
    "PauseTarget",
    "ReloadTarget",
    "Removing",
    "ResumeTarget",
    "Selected",
    "SelectedProcess",
    "SetOptions",
    "SignalTo",
    "SocketOptionsOf",
    "StacksFor",
    "StopTarget",
    "Upgrade",
    "Values",
    "Waiting",
]

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
WatcherName = Annotated[str, msgspec.Meta(description="name of a watcher")]
OneOrItsProcess = Annotated[str, msgspec.Meta(description="name of a watcher, or of one process: web[2]")]
AnyWatcher = Annotated[str | None, msgspec.Meta(description="name of a watcher; all if left out")]
AnyGroup = Annotated[
    str | None,
    msgspec.Meta(description="name of a watcher, web[2] for one process, GROUP:* for a group; all if left out"),
]
SocketName = Annotated[str, msgspec.Meta(description="name of a socket")]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verb without parameters."""


class Selected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watcher by name, or all of them if the name is left out."""

    watcher: AnyGroup = None


class StopTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher, several, or all; with `waiting` false the answer comes at once, and not when the work is done."""

    watcher: AnyGroup = None
    watchers: list[str] | None = None
    waiting: bool = True


class ReloadTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher, or all. Processes are replaced one after another, unless `at_once` is given."""

    watcher: Annotated[
        str | None, msgspec.Meta(description="name of a watcher, GROUP:* for a group; all if left out")
    ] = None
    sequential: Annotated[bool, msgspec.Meta(description="accepted for Circus: the default")] = False
    at_once: Annotated[
        bool, msgspec.Meta(description="start all successors together, as Circus does: twice the processes for a while")
    ] = False
    terminate: Annotated[bool, msgspec.Meta(description="stop first, then start, as restart does")] = False
    canary: Annotated[
        Count | None,
        msgspec.Meta(description="replace this many first, compare them with the others, then go on or roll back"),
    ] = None
    watch: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=86400)] | None,
        msgspec.Meta(description="seconds for which a canary is compared (30)"),
    ] = None
    waiting: bool = True


class OneToReplace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watcher."""

    watcher: WatcherName
    waiting: bool = True


class OneTimer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watcher that has a schedule."""

    watcher: Annotated[str, msgspec.Meta(description="name of a watcher that has a schedule")]
    waiting: bool = True


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only whether to answer when the work is done, or at once."""

    waiting: bool = True


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last events of all watchers or of one, then, with `follow`, new ones; `after` is the id of one."""

    watcher: AnyWatcher = None
    follow: bool = True
    last: Annotated[int, msgspec.Meta(ge=0)] = 0
    after: Annotated[int, msgspec.Meta(ge=0)] = 0


class LogsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last output that is kept, all of it or `last` lines, then, with `follow`, new output.

    Each event has `time` (seconds since 1970), `name` (web[2]), `pid`, `stream` (stdout or stderr) and `text`.
    """

    target: Annotated[
        str | None,
        msgspec.Meta(description="a watcher (web), or one of its processes (web[2]); all if left out"),
    ] = None
    follow: bool = False
    last: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By how many processes to change one watcher."""

    watcher: WatcherName
    count: Annotated[Count, msgspec.Meta(description="how many (1)")] = 1
    waiting: bool = True


class HoldTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All processes of a watcher, or the one of a slot."""

    watcher: OneOrItsProcess
    wid: Annotated[int | None, msgspec.Meta(description="only the process of this slot")] = None


Values = dict[str, Any]
"""Options by name; a value is a JSON value, or the text that a file would have."""


class PauseTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher whose new connections must wait, for at most `max` seconds."""

    watcher: WatcherName
    max: Annotated[float, msgspec.Meta(gt=0, le=86400, description="longest time for which clients wait (30)")] = 30.0
    then: Annotated[
        Literal["shed", "resume"], msgspec.Meta(description="what follows: shed (503, the default) or resume")
    ] = "shed"


class ResumeTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher that must accept again."""

    watcher: WatcherName
    waiting: bool = True


class MaintenanceSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Maintenance `on`, with the absolute path of a page, or `off`; for one watcher, or for all that serve."""

    switch: Annotated[Literal["on", "off"], msgspec.Meta(description="on or off")]
    file: Annotated[str | None, msgspec.Meta(description="the page to answer with")] = None
    watcher: Annotated[str | None, msgspec.Meta(description="only this watcher")] = None
    retry_after: Annotated[int, msgspec.Meta(ge=0, description="seconds that clients are told to wait (30)")] = 30


class Upgrade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The replacement of forkserve itself; without a path, by what is now installed in the same place."""

    python: Annotated[
        str | None,
        msgspec.Meta(description="another interpreter, which has forkserve installed"),
    ] = None
    exec: Annotated[str | None, msgspec.Meta(description="another `forkserve` command, such as that of a new venv")] = (
        None
    )
    within: Annotated[
        float,
        msgspec.Meta(gt=0, le=600, description="seconds in which the new code must be ready to take over"),
    ] = 30.0
    waiting: bool = True


class SetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New values for options of one watcher, all or none.

    A change that needs new processes is refused while some run, unless `reload` is set.
    """

    watcher: WatcherName
    options: Annotated[Values, msgspec.Meta(description="an option of a section [watcher:NAME], and its new value")]
    reload: Annotated[bool, msgspec.Meta(description="replace the processes one by one if an option needs it")] = False
    waiting: bool = True


class Adding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new watcher, until the configuration is read again; with `start` its processes are started."""

    watcher: Annotated[str, msgspec.Meta(description="name of the new watcher")]
    cmd: Annotated[str, msgspec.Meta(description="command to run, with its arguments")]
    args: Annotated[str | None, msgspec.Meta(description="further arguments of the command")] = None
    options: Annotated[Values | None, msgspec.Meta(description="an option of a section [watcher:NAME]; repeatable")] = (
        None
    )
    start: Annotated[bool, msgspec.Meta(description="start it")] = False
    waiting: bool = True


class Removing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher to remove."""

    watcher: WatcherName
    nostop: Annotated[bool, msgspec.Meta(description="leave its processes running, unsupervised")] = False
    waiting: bool = True


class SocketOptionsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A socket, and options as in a section [socket:NAME]."""

    socket: SocketName
    options: Annotated[Values, msgspec.Meta(description="an option of a section [socket:NAME], such as port=8001")]
    waiting: bool = True


class OneSocket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A socket."""

    socket: SocketName
    waiting: bool = True


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of one watcher, by name."""

    watcher: WatcherName
    keys: Annotated[list[str], msgspec.Meta(min_length=1, description="name of an option")]


class OneWatcher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watcher."""

    watcher: WatcherName


class OneOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An option of the master, or all of them."""

    option: Annotated[str | None, msgspec.Meta(description="name of an option; all if left out")] = None


class SelectedProcess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All watchers, one, or one process of one."""

    watcher: AnyWatcher = None
    pid: Annotated[int | None, msgspec.Meta(description="only this process")] = None
    extended: Annotated[bool, msgspec.Meta(description="include what the hook extended_stats adds")] = False


class Killing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Processes of a watcher, or the one with a pid: signalled, then killed; they are replaced.

    Without `signum` and `graceful_timeout` (seconds): stop_signal, and the graceful_timeout of the watcher.
    """

    watcher: OneOrItsProcess
    pid: Annotated[int | None, msgspec.Meta(description="only this process; all of the watcher if left out")] = None
    signum: Annotated[str | int | None, msgspec.Meta(description="signal to send instead of stop_signal")] = None
    graceful_timeout: Annotated[Seconds | None, msgspec.Meta(description="time until SIGKILL")] = None
    waiting: bool = True


class SignalTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal by name or number for all processes of a watcher, or for one by pid or wid."""

    watcher: OneOrItsProcess
    signal: Annotated[str | int, msgspec.Meta(description="name of a signal (HUP or SIGHUP), or its number")]
    children: Annotated[bool, msgspec.Meta(description="signal the direct children instead")] = False
    recursive: Annotated[bool, msgspec.Meta(description="signal all descendants as well")] = False
    childpid: Annotated[int | None, msgspec.Meta(description="signal only this child")] = None
    pid: Annotated[int | None, msgspec.Meta(description="signal only this process")] = None
    wid: Annotated[int | None, msgspec.Meta(description="signal only the process of this slot")] = None


class StacksFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The processes whose stacks are requested."""

    target: Annotated[str, msgspec.Meta(description="a watcher (web), one of its processes (web[2]), or a pid")]
