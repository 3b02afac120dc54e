"""The verbs of the control interface, declared once: parameters, answer, and purpose.

`commands` has a function for each. The HTTP interface, forkservectl and the description of the API are made from these
declarations, so a parameter has one name, one type and one help text everywhere.

Rules: pure data; nothing of the master is imported, so that a client starts quickly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from forkserve.control.schema.reports import Done, SocketReport, StackReport, UsageReport, Version, WatcherReport
from forkserve.control.schema.requests import (
    Adding,
    Amount,
    Asking,
    Events,
    HoldTarget,
    Killing,
    LogsOf,
    MaintenanceSwitch,
    Nothing,
    OneOption,
    OneSocket,
    OneTimer,
    OneToReplace,
    OneWatcher,
    PauseTarget,
    ReloadTarget,
    Removing,
    ResumeTarget,
    Selected,
    SelectedProcess,
    SetOptions,
    SignalTo,
    SocketOptionsOf,
    StacksFor,
    StopTarget,
    Upgrade,
    Values,
    Waiting,
)
from forkserve.control.schema.top import TopAsked, TopReport

__all__ = ["VERBS", "Verb"]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb. `reads` means that it changes nothing, and accepts GET; `streams`, that it answers by server-sent
    events.

    `words` are the positional parameters of forkservectl; the others are flags.
    """

    name: str
    summary: str
    parameters: type[Any] = Nothing
    answer: Any = Done
    reads: bool = False
    words: tuple[str, ...] = ()
    streams: bool = False


def _by_name(verbs: Iterable[Verb]) -> dict[str, Verb]:
    return {each.name: each for each in verbs}


VERBS: dict[str, Verb] = _by_name(
    (
        Verb("version", "Show the version and the pid of the forkserve that answers.", answer=Version, reads=True),
        Verb(
            "list",
            "List the watchers, or the pids of one.",
            Selected,
            list[str | int],
            reads=True,
            words=("watcher",),
        ),
        Verb("numwatchers", "Count the watchers.", answer=int, reads=True),
        Verb(
            "numprocesses",
            "Count the processes of all watchers, or of one.",
            Selected,
            int,
            reads=True,
            words=("watcher",),
        ),
        Verb(
            "status",
            "Show the state of every process, or of those of one watcher.",
            Selected,
            list[WatcherReport],
            reads=True,
            words=("watcher",),
        ),
        Verb(
            "stats",
            "Show what every process uses: CPU, memory, threads, descriptors.",
            SelectedProcess,
            list[WatcherReport],
            reads=True,
            words=("watcher", "pid"),
        ),
        Verb("dstats", "Show what the master and the programs beside it use.", answer=list[UsageReport], reads=True),
        Verb(
            "top",
            "Show a live view of requests, latency, connections, CPU and memory of every process.",
            TopAsked,
            TopReport,
            reads=True,
        ),
        Verb("listsockets", "Show the listening sockets.", answer=list[SocketReport], reads=True),
        Verb("options", "Show all options of a watcher.", OneWatcher, Values, reads=True, words=("watcher",)),
        Verb("get", "Show some options of a watcher.", Asking, Values, reads=True, words=("watcher", "keys")),
        Verb("globaloptions", "Show the options of the master.", OneOption, Values, reads=True, words=("option",)),
        Verb(
            "stacks",
            "Show the stacks of threads, tasks and greenlets: stacks web[2], or web, or a pid.",
            StacksFor,
            list[StackReport],
            reads=True,
            words=("target",),
        ),
        Verb(
            "events",
            "Print past events, or with -f new ones, one a line.",
            Events,
            reads=True,
            words=("watcher",),
            streams=True,
        ),
        Verb(
            "logs",
            "Print the last output of processes, or with -f new output: logs web[2], or web, or all.",
            LogsOf,
            reads=True,
            words=("target",),
            streams=True,
        ),
        Verb(
            "run",
            "Run a timer (a watcher with a schedule) now, wait for its end, and exit with its code.",
            OneTimer,
            words=("watcher",),
        ),
        Verb("start", "Start one watcher, or all.", StopTarget, words=("watcher",)),
        Verb("stop", "Stop one watcher, or all; the sockets stay open.", StopTarget, words=("watcher",)),
        Verb("restart", "Stop and start one watcher, or all.", StopTarget, words=("watcher",)),
        Verb(
            "reload",
            "Replace the processes of one watcher, or of all, one by one; old ones stop when new ones are ready.",
            ReloadTarget,
            words=("watcher",),
        ),
        Verb(
            "rollback",
            "Go back to the command and the folder of a watcher's last good generation.",
            OneToReplace,
            words=("watcher",),
        ),
        Verb(
            "drain",
            "Make workers accept nothing more; they answer what they have, and stay.",
            HoldTarget,
            words=("watcher",),
        ),
        Verb("undrain", "Make drained workers accept again.", HoldTarget, words=("watcher",)),
        Verb(
            "pause",
            "Make new connections wait in the queue for a while; then they are served again, or get 503.",
            PauseTarget,
            words=("watcher",),
        ),
        Verb("resume", "End a pause: workers accept again.", ResumeTarget, words=("watcher",)),
        Verb(
            "maintenance",
            "Answer every request with 503 and a page, instead of the workers: on [FILE], or off.",
            MaintenanceSwitch,
            words=("switch", "file"),
        ),
        Verb("reloadconfig", "Read the configuration again and apply only what differs.", Waiting),
        Verb("incr", "Run more processes of a watcher.", Amount, words=("watcher", "count")),
        Verb("decr", "Run fewer processes of a watcher.", Amount, words=("watcher", "count")),
        Verb(
            "set",
            "Change options of a watcher, all or none: set web numprocesses=4 max_age=3600.",
            SetOptions,
            words=("watcher", "options"),
        ),
        Verb("add", "Add a watcher, until the configuration is read again.", Adding, words=("watcher", "cmd")),
        Verb("rm", "Stop and remove a watcher, until the configuration is read again.", Removing, words=("watcher",)),
        Verb(
            "addsocket",
            "Bind another socket: addsocket api port=8001.",
            SocketOptionsOf,
            words=("socket", "options"),
        ),
        Verb(
            "setsocket",
            "Change options of a socket; a new address is bound without a gap.",
            SocketOptionsOf,
            words=("socket", "options"),
        ),
        Verb("rmsocket", "Close a socket that no watcher uses, once its queue is empty.", OneSocket, words=("socket",)),
        Verb("signal", "Send a signal to the processes of a watcher.", SignalTo, words=("watcher", "signal")),
        Verb("kill", "Stop processes of a watcher; others replace them.", Killing, words=("watcher", "pid")),
        Verb("reopenlogs", "Reopen every log file, for instance after a rotation."),
        Verb(
            "upgrade",
            "Replace forkserve itself by the code that is installed now; processes and connections stay.",
            Upgrade,
        ),
        Verb("quit", "Stop everything and end forkserve.", Waiting),
    )
)
"""Every verb by its name, in the order of the help."""
