"""The options of the master itself: the section [circus].

Rules: as in `model`: one field per option, Circus's names first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from forkserve.config.address import Address
from forkserve.config.options import ReloadCost, option
from forkserve.config.values import (
    address,
    at_least,
    boolean,
    integer,
    local_address,
    log_level,
    log_output,
    logger_config,
    member,
    not_empty,
    number,
    optional,
    optional_octal,
    paths,
    seconds,
    size,
    tcp_address,
    text,
    zmq_address,
)

__all__ = ["Capture", "MasterOptions", "OnMasterDeath"]

LIVE, RESTART = ReloadCost.LIVE, ReloadCost.RESTART


class Capture(Enum):
    """Whether output that no stream captures is captured on its way to the master's own."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class OnMasterDeath(Enum):
    """What happens to all processes when the master is killed."""

    STOP = "stop"
    SERVE = "serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """The section `[circus]` of an INI file, `[forkserve]` of a TOML file: the master itself."""

    name: str | None = option(
        None,
        "Name of this instance, shown in process titles and logs.",
        parse=optional(text),
        reload=RESTART,
        cli=("-n", "--name"),
        metavar="NAME",
    )
    pidfile: str | None = option(
        None,
        "File for the master's pid. A start is refused while that pid is alive, or if the file holds something else.",
        parse=optional(text),
        reload=RESTART,
        cli=("-p", "--pidfile", "--pid"),
        metavar="FILE",
    )
    loglevel: str = option(
        "info",
        "Least severe messages to log: debug, info, warning, error or critical.",
        parse=log_level,
        reload=LIVE,
        cli=("--log-level",),
        metavar="LEVEL",
        choices=("debug", "info", "warning", "error", "critical"),
    )
    debug: bool = option(
        False,
        "Log at level debug, unless loglevel is set (Circus).",
        parse=boolean,
        reload=RESTART,
    )
    logoutput: str = option(
        "-",
        "Where the master logs: - (stderr), a file, syslog://HOST[:PORT]?FACILITY or syslog:///PATH?FACILITY.",
        parse=log_output,
        reload=RESTART,
        cli=("--log-output",),
        metavar="WHERE",
    )
    loggerconfig: str | None = option(
        None,
        "File that configures Python's logging for the master's log, instead of logoutput: .json or .yaml for "
        "dictConfig, any other for fileConfig.",
        parse=logger_config,
        reload=RESTART,
        cli=("--logger-config",),
        metavar="FILE",
    )
    log_max_bytes: int = option(
        0,
        "Size at which the file of logoutput is rotated to FILE.1, FILE.2 ..., such as 50M; 0 never rotates it.",
        parse=size,
        check=at_least(0),
        reload=RESTART,
        cli=("--log-max-bytes",),
        metavar="SIZE",
    )
    log_backups: int = option(
        10,
        "Rotated files of logoutput to keep.",
        parse=integer,
        check=at_least(0),
        reload=RESTART,
        cli=("--log-backups",),
        metavar="N",
    )
    timers_file: str | None = option(
        None,
        "File in which timers keep their last results, so that a restart of forkserve knows these, and tells of the "
        "runs that were missed meanwhile.",
        parse=optional(text),
        reload=RESTART,
        metavar="FILE",
    )
    umask: int | None = option(
        None,
        "umask, octal, of the master and of all processes whose watcher sets none.",
        parse=optional_octal,
        reload=RESTART,
        cli=("-m", "--umask"),
        metavar="OCTAL",
    )
    warmup_delay: float = option(
        0.0, "Seconds between the starts of two watchers.", parse=seconds, check=at_least(0), reload=LIVE
    )
    control: str = option(
        "auto",
        "Path of the control socket; `auto` chooses a private folder, `none` serves no control.",
        check=not_empty,
        reload=RESTART,
        cli=("--control",),
        metavar="PATH|none",
    )
    status_bind: Address | None = option(
        None,
        "Where the master serves /livez, /readyz, /startupz and /metrics: IP:PORT, unix:PATH, or a port of 127.0.0.1.",
        parse=optional(local_address),
        reload=LIVE,
        cli=("--status-bind",),
        metavar="ADDRESS",
    )
    control_bind: str | None = option(
        None,
        "IP:PORT at which the control API is served over TCP as well, to clients that have the token.",
        parse=tcp_address,
        reload=RESTART,
        metavar="IP:PORT",
    )
    control_token: str | None = option(
        None,
        "File with the token for control_bind: at least 16 characters, readable only by its owner.",
        parse=optional(text),
        reload=RESTART,
        metavar="FILE",
    )
    control_certfile: str | None = option(
        None,
        "Certificate for control_bind, PEM; required for any address but 127.0.0.1.",
        parse=optional(text),
        reload=RESTART,
        metavar="FILE",
    )
    control_keyfile: str | None = option(
        None,
        "Private key of control_certfile, PEM, if not in the same file.",
        parse=optional(text),
        reload=RESTART,
        metavar="FILE",
    )
    control_hosts: tuple[str, ...] = option(
        (),
        "Host names that clients may use for control_bind, besides its IP and localhost.",
        parse=paths,
        reload=RESTART,
    )
    statsd_host: Address | None = option(
        None,
        "StatsD server that gets the metrics every ten seconds, by UDP.",
        parse=optional(address),
        reload=RESTART,
        cli=("--statsd-host",),
        metavar="HOST:PORT",
    )
    statsd_prefix: str = option(
        "", "Prefix of the names of these metrics.", reload=RESTART, cli=("--statsd-prefix",), metavar="PREFIX"
    )
    daemon: bool = option(
        False,
        "Detach from the terminal and run in the background.",
        parse=boolean,
        reload=RESTART,
        cli=("-D", "--daemon"),
    )
    capture: Capture = option(
        Capture.AUTO,
        "Whether output without a stream is kept for `forkservectl logs` on its way to forkserve's own: on, off, or "
        "auto, which is on where forkserve's own is a file, under systemd, as the first process of a container, and in "
        "the background (daemon).",
        parse=member(Capture),
        reload=LIVE,
        cli=("--capture",),
        choices=tuple(each.value for each in Capture),
    )
    on_master_death: OnMasterDeath = option(
        OnMasterDeath.STOP,
        "What processes do when the master is killed (SIGKILL): stop, or serve until a new start of the same "
        "configuration takes them over.",
        parse=member(OnMasterDeath),
        reload=RESTART,
        cli=("--on-master-death",),
        choices=tuple(each.value for each in OnMasterDeath),
    )
    endpoint: str | None = option(
        None,
        "ZeroMQ address at which circusctl and Circus's clients are served, such as tcp://127.0.0.1:5555 or ipc:///PATH.",
        parse=zmq_address,
        reload=RESTART,
        metavar="ADDRESS",
    )
    endpoint_owner: str | None = option(
        None,
        "User that owns the file of an ipc:// endpoint; `add` then accepts only watchers that run as this user.",
        parse=optional(text),
        reload=RESTART,
        metavar="USER",
    )
    pubsub_endpoint: str | None = option(
        None,
        "ZeroMQ address at which Circus's events are published, for CircusConsumer and plugins.",
        parse=zmq_address,
        reload=RESTART,
        metavar="ADDRESS",
    )
    stats_endpoint: str | None = option(
        None,
        "ZeroMQ address at which Circus's statistics are published each second, for circus-top.",
        parse=zmq_address,
        reload=RESTART,
        metavar="ADDRESS",
    )
    statsd: bool = option(
        False,
        "Publish statistics also without a stats_endpoint: at tcp://127.0.0.1:5557.",
        parse=boolean,
        reload=RESTART,
    )
    check_delay: float = option(
        5.0,
        "Accepted for Circus files and needed no more: a death is noticed at once, not at a tick.",
        parse=number,
        reload=LIVE,
    )
    include: tuple[str, ...] = option(
        (), "More files to read, globs allowed; what the main file sets wins.", parse=paths, reload=LIVE
    )
    include_dir: tuple[str, ...] = option(
        (), "Folders of which every *.ini and *.toml is read as with include.", parse=paths, reload=LIVE
    )
