"""All options of files: one frozen dataclass per section, one field per option.

Rules: a field made by `option()` is an option of the file; a plain field is derived by the readers. Circus's names are
kept, ours come after them. Files, the command line, the reference and the reload planner all read these declarations,
so nothing else in the package lists options. Options of Circus without effect are in `later.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forkserve.config.masteroptions import MasterOptions
from forkserve.config.options import Origin, ReloadCost, option
from forkserve.config.order import OnDependency
from forkserve.config.portions import portion
from forkserve.config.probes import probe_text
from forkserve.config.programoptions import ProgramOptions
from forkserve.config.schedules import Overlap, schedule_text, time_zone_name
from forkserve.config.sockets import SocketOptions
from forkserve.config.streams import StreamClass, StreamOptions
from forkserve.config.values import (
    at_least,
    between,
    boolean,
    exit_codes,
    integer,
    member,
    names,
    number,
    optional,
    optional_octal,
    seconds,
    signal_name,
    size,
    socket_name,
    text,
)

__all__ = ["Config", "MasterOptions", "OnDependency", "SocketOptions", "StreamClass", "StreamOptions", "WatcherOptions"]

LIVE, RESPAWN = ReloadCost.LIVE, ReloadCost.RESPAWN


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherOptions(ProgramOptions):
    """A section `[watcher:NAME]`: one command and the processes that run it."""

    numprocesses: int = option(
        1,
        "Processes to keep running; `auto` is one per usable CPU, as memory allows.",
        parse=integer,
        check=at_least(0),
        reload=LIVE,
        metavar="N",
    )
    numprocesses_min: int = option(
        1,
        "Processes at least, where numprocesses_max is given.",
        parse=integer,
        check=at_least(1),
        reload=LIVE,
        metavar="N",
    )
    numprocesses_max: int = option(
        0,
        "Most processes: their number follows the load, between numprocesses_min and this; 0 leaves it fixed.",
        parse=integer,
        check=at_least(0),
        reload=LIVE,
        metavar="N",
    )
    singleton: bool = option(False, "Never more than one process.", parse=boolean, reload=LIVE)
    warmup_delay: float = option(
        0.0, "Seconds between the starts of two processes.", parse=seconds, check=at_least(0), reload=LIVE
    )
    autostart: bool = option(True, "Start with the master.", parse=boolean, reload=LIVE)
    on_demand: bool = option(
        False,
        "Start no process until a connection waits in a socket of the watcher.",
        parse=boolean,
        reload=LIVE,
    )
    idle_stop: float = option(
        0.0,
        "Seconds without a request after which the processes stop until the next connection; 0 for never; needs "
        "on_demand.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    respawn: bool = option(True, "Replace a process that has ended.", parse=boolean, reload=LIVE)
    exitcodes: tuple[int, ...] = option(
        (),
        "Exit codes after which a process is not replaced, such as 0 or 0,2; after any other it is (respawn).",
        parse=exit_codes,
        reload=LIVE,
        metavar="CODES",
    )
    group: str | None = option(
        None, "Group of watchers, which verbs accept as GROUP:*.", parse=optional(text), reload=LIVE, metavar="GROUP"
    )
    use_sockets: bool = option(
        False,
        "Inherit the sockets named in cmd, or all of them when it names none; see also LISTEN_FDS.",
        parse=boolean,
    )
    stdin_socket: str | None = option(
        None, "Socket to pass as standard input, as for FastCGI.", parse=socket_name, metavar="NAME"
    )
    send_hup: bool = option(
        False, "Reload by sending SIGHUP instead of replacing processes.", parse=boolean, reload=LIVE
    )
    stop_signal: int = option(
        15, "Signal that asks a process to stop.", parse=signal_name, reload=LIVE, metavar="SIGNAL"
    )
    stop_children: bool = option(False, "Send stop_signal to the whole process group.", parse=boolean, reload=LIVE)
    graceful_timeout: float = option(
        30.0,
        "Seconds from stop_signal to SIGKILL.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
        cli=("--graceful-timeout",),
        metavar="SECONDS",
    )
    drain_delay: float = option(
        0.0,
        "Seconds to serve on before a stop, while not ready, so that load balancers notice.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
        cli=("--drain-delay",),
        metavar="SECONDS",
    )
    max_retry: int = option(
        5,
        "Failed starts in a row after which a slot is FATAL; -1 retries for ever.",
        parse=integer,
        check=at_least(-1),
        reload=LIVE,
    )
    max_age: float = option(
        0.0, "Seconds after which a process is replaced; 0 for never.", parse=seconds, check=at_least(0), reload=LIVE
    )
    max_age_variance: float = option(
        30.0,
        "Add a random number of seconds, up to this many, to max_age.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    max_rss: int = option(
        0,
        "Resident memory (RSS) at which a process is replaced, such as 500M, the largest first; 0 for no limit.",
        parse=size,
        check=at_least(0),
        reload=LIVE,
        metavar="SIZE",
    )
    max_pss: int = option(
        0,
        "The same for PSS, which divides shared memory among the processes that share it.",
        parse=size,
        check=at_least(0),
        reload=LIVE,
        metavar="SIZE",
    )
    max_pss_total: int = option(
        0,
        "PSS of all processes together at which the largest is replaced; 0 for no limit.",
        parse=size,
        check=at_least(0),
        reload=LIVE,
        metavar="SIZE",
    )
    priority: int = option(
        0, "Watchers with a higher priority start earlier and stop later.", parse=integer, reload=LIVE
    )
    after: tuple[str, ...] = option(
        (),
        "Watchers that must be ready before this one starts, and that stop after it, such as redis, db.",
        parse=names,
        reload=LIVE,
    )
    on_dependency: OnDependency = option(
        OnDependency.KEEP,
        "What to do when a watcher of `after` is no longer ready: keep, restart (when it is ready again), or stop.",
        parse=member(OnDependency),
        reload=LIVE,
        choices=tuple(each.value for each in OnDependency),
    )
    max_surge: str | None = option(
        None,
        "Processes, or percent of numprocesses (rounded up), that a reload may start before it stops as many; 1 if not "
        "set. If set, a canary may run in addition to all processes.",
        parse=optional(portion),
        reload=LIVE,
        metavar="N|N%",
    )
    max_unavailable: str = option(
        "0",
        "Processes, or percent of numprocesses (rounded down), that a reload may stop before it starts as many.",
        parse=portion,
        reload=LIVE,
        metavar="N|N%",
    )
    canary_requests: int = option(
        50,
        "Requests that a canary, and the others, must have answered before errors and latency count.",
        parse=integer,
        check=at_least(1),
        reload=LIVE,
        metavar="N",
    )
    canary_errors: float = option(
        1.0,
        "A canary is rolled back when its share of 5xx exceeds that of the others by more than this, in percent.",
        parse=number,
        check=between(0, 100),
        reload=LIVE,
        metavar="PERCENT",
    )
    canary_latency: float = option(
        2.0,
        "A canary is rolled back when its 99th percentile exceeds this many times that of the others.",
        parse=number,
        check=at_least(1),
        reload=LIVE,
        metavar="FACTOR",
    )
    canary_memory: float = option(
        2.0,
        "A canary is rolled back when its processes have this many times the memory of the others, and 16 MiB more.",
        parse=number,
        check=at_least(1),
        reload=LIVE,
        metavar="FACTOR",
    )
    schedule: str | None = option(
        None,
        "When to run cmd, as in a crontab: '*/5 * * * *', or @daily. Nothing runs in between.",
        parse=optional(schedule_text),
        reload=LIVE,
        metavar="CRON",
    )
    time_zone: str | None = option(
        None,
        "Time zone of schedule, such as Europe/Berlin; that of the machine if not set.",
        parse=optional(time_zone_name),
        reload=LIVE,
        metavar="ZONE",
    )
    overlap: Overlap = option(
        Overlap.SKIP,
        "What to do if a run is due while another is running: skip it, queue it (one waits), or allow both.",
        parse=member(Overlap),
        reload=LIVE,
        choices=tuple(each.value for each in Overlap),
    )
    catch_up: bool = option(
        False, "Make up for runs missed while the machine slept, by one run.", parse=boolean, reload=LIVE
    )
    schedule_jitter: float = option(
        0.0,
        "Delay each run by a random number of seconds, up to this many.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    run_timeout: float = option(
        0.0,
        "Seconds after which a run is stopped; 0 for no limit.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    close_child_stdin: bool = option(True, "Point standard input to /dev/null.", parse=boolean)
    close_child_stdout: bool = option(False, "Point standard output to /dev/null.", parse=boolean)
    close_child_stderr: bool = option(False, "Point standard error to /dev/null.", parse=boolean)
    logs_kept: int | None = option(
        None,
        "Bytes of output to keep for `forkservectl logs`; by default 64K of what is captured, by a stream or by "
        "`capture`. If set, all output is captured, and passed on to the master's own if there is no stream; with 0 "
        "only that of streams.",
        parse=optional(size),
        check=at_least(0),
        cli=("--logs-kept",),
        metavar="SIZE",
    )
    redirect_stderr: bool = option(False, "Write standard error to standard output.", parse=boolean)
    umask: int | None = option(None, "umask of the processes, octal.", parse=optional_octal, metavar="OCTAL")
    backoff: float = option(
        0.5,
        "Seconds before the first retry of a failed start; doubled for each further one.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    backoff_max: float = option(
        30.0, "Longest pause between two tries, in seconds.", parse=seconds, check=at_least(0), reload=LIVE
    )

    ready_after: float = option(
        1.0,
        "Seconds after which a process that has not ended counts as ready, if it does not send READY=1 (sd_notify).",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    ready_timeout: float = option(
        60.0,
        "Seconds within which a process that sends READY=1 must do so, or be killed; 0 waits for ever.",
        parse=seconds,
        check=at_least(0),
        reload=LIVE,
    )
    preload: bool = option(
        False,
        "Import the application once, in a zygote that forks the workers; cmd must run forkserve-worker.",
        parse=boolean,
    )
    standby: bool = option(
        True,
        "With preload: keep the zygote of the last good generation for `forkservectl rollback`, while memory allows.",
        parse=boolean,
        reload=LIVE,
    )
    refork_after: int = option(
        0,
        "Requests after which a worker becomes the next zygote, as long as that saves memory; 0 for never; needs "
        "preload.",
        parse=integer,
        check=at_least(0),
        metavar="N",
    )

    ready: str | None = option(
        None,
        "Readiness probe, instead of READY=1: tcp://HOST:PORT, unix:PATH, http://HOST:PORT/PATH, exec:COMMAND, or "
        "seconds of staying up.",
        parse=probe_text,
        reload=LIVE,
        metavar="PROBE",
    )
    watchdog: float = option(
        0.0,
        "Seconds within which a ready process must send WATCHDOG=1 (sd_notify), or be replaced; 0 for never.",
        parse=seconds,
        check=at_least(0),
    )
    fdstore_max: int = option(
        0,
        "Descriptors that a process may leave to its successor by FDSTORE=1 (sd_notify), which gets them by "
        "LISTEN_FDS.",
        parse=integer,
        check=at_least(0),
        reload=LIVE,
    )

    hook_timeout: float = option(
        60.0,
        "Seconds within which a hook must return, or it counts as failed and its process is killed.",
        parse=seconds,
        check=at_least(0.1),
        reload=LIVE,
        metavar="SECONDS",
    )

    env: Mapping[str, str] = field(default_factory=dict)
    """The variables from the env sections for this watcher; the master's own environment is not included."""
    rlimits: Mapping[str, int] = field(default_factory=dict)
    """By the names of resource(3), such as RLIMIT_NOFILE; -1 (RLIM_INFINITY) is no limit."""
    stdout_stream: StreamOptions | None = None
    stderr_stream: StreamOptions | None = None
    hooks: Mapping[str, str] = field(default_factory=dict)
    """`dotted.name` or `dotted.name,ignore_failure`, by the name of the hook (`hooks.parse_hook`)."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Free keys of the section, kept for plugins and for `forkservectl options`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One reading of a configuration, complete and consistent; equal readings compare equal."""

    master: MasterOptions = field(default_factory=MasterOptions)
    sockets: tuple[SocketOptions, ...] = ()
    watchers: tuple[WatcherOptions, ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """One line each, ready to be logged: what was ignored, and where."""
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict, compare=False)
    """Where a value was given, by section and option, e.g. `("watcher:web", "cmd")`; defaults are not included."""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The label of a section in messages, as its file spells it: `watcher.web` for `watcher:web` of a TOML file."""
