"""The arguments of `forkserve`: split here, interpreted in `line.py`.

Rules: flags of the master and of the worker come from the declarations of options; only the flags that shape the
command line itself are written here. Abbreviations are not accepted. Everything after the first `--` is the command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from forkserve import __version__
from forkserve.cli.helptext import CommandLineParser, HelpFormatter
from forkserve.cli.peers import advice
from forkserve.config.defaults import default_text
from forkserve.config.model import MasterOptions
from forkserve.config.options import Option, options_of, with_bare_values
from forkserve.config.values import boolean
from forkserve.errors import UsageError
from forkserve.suggest import nearest

__all__ = ["Line", "line_parser", "parse_line", "worker_flags"]

_GRACE = ("--graceful-timeout", "--timeout-graceful-shutdown")
_PASTE = ("--paste", "--paster")
_LOG_OF_ALL = ("--log-file", "--error-logfile")
_OWN_FLAGS = {
    *("-c", "--config", "--fd-socket", "-b", "--bind", "-w", "--workers", "--chdir", "--backlog"),
    *(*_GRACE, *_PASTE, *_LOG_OF_ALL),
} | {flag for each in options_of(MasterOptions) for flag in each.cli}
"""Flags that forkserve-worker may know too, but that mean the master's here; its other spellings are passed on."""

USAGE = """\
forkserve --fd-socket NAME=ADDRESS ... [OPTIONS] -- COMMAND [ARG ...]
       forkserve [-w N] [-b ADDRESS ...] [-k BACKEND] [OPTIONS] MODULE:APP
       forkserve [-w N] [-b ADDRESS ...] [OPTIONS] -- COMMAND [ARG ...]
       forkserve -c FILE [OPTIONS]
       forkserve check FILE
       forkserve import FILE [-o OUT]
       forkserve options [NAME | --markdown]
       forkserve man [PAGE | --to DIR]"""

DESCRIPTION = """\
Binds sockets and keeps commands running that inherit them.

  forkserve --fd-socket web=0.0.0.0:8000 -- \\
      forkserve-worker --fd '$(circus.sockets.web)' myapp:app
  forkserve -w 4 -b :8000 -k gevent myapp:app
  forkserve -c circus.ini"""

EPILOG = """\
ADDRESS is HOST:PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH, unix:@ABSTRACT or
fd://N. Options of the socket may follow the address of a --fd-socket:
  web=unix:/run/web.sock,mode=0660,owner=www-data,backlog=4096,replace
In COMMAND, $(circus.sockets.NAME) stands for the socket's descriptor; quote it,
or the shell expands it.

Flags of Gunicorn have the same meaning; those that do not apply are refused
with what to do instead.

exit codes: 0 ordered stop, 2 usage, 69 cannot bind, 70 gave up, 77 no
permission, 78 configuration
environment: the short form reads WEB_CONCURRENCY (-w) and PORT
(-b 0.0.0.0:PORT); empty variables are ignored"""


@dataclass(slots=True, kw_only=True)
class Line:
    """The arguments as given; only their form is checked."""

    config: str | None = None
    fd_sockets: list[str] = field(default_factory=list)
    binds: list[str] = field(default_factory=list)
    backlog: str | None = None
    workers: str | None = None
    env: list[str] = field(default_factory=list)
    chdir: str | None = None
    user: str | None = None
    group: str | None = None
    graceful_timeout: str | None = None
    drain_delay: str | None = None
    logs_kept: str | None = None
    log_file: str | None = None
    """Where the master and the workers log; `log_flag` is the flag that was typed."""
    log_flag: str = "--log-file"
    paste: str | None = None
    reuse_port: bool = False
    capture_output: bool = False
    check_config: bool = False
    print_config: bool = False
    end_orphans: bool = False
    master: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Flag and text, by the name of the master's option."""
    worker: list[str] = field(default_factory=list)
    """Flags for forkserve-worker, as given."""
    application: str | None = None
    command: list[str] | None = None


class _Parser(CommandLineParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see forkserve --help)")


class _MasterFlag(argparse.Action):
    """Keeps the text of a master's option, to be parsed like that of a file."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        text = "true" if self.nargs == 0 else values
        namespace.master = {**namespace.master, self.dest: (option_string, text)}


class _LogFlag(argparse.Action):
    """Keeps the destination of all logs, and the flag by which it was given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.log_file, namespace.log_flag = values, option_string


class _WorkerFlag(argparse.Action):
    """Keeps a flag for forkserve-worker, with its value, in the order given; an invalid value is refused right here."""

    def __init__(self, option: Option, **rest: Any) -> None:
        super().__init__(**rest)
        self.option = option

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if self.nargs != 0:
            try:
                self.option.read(values)
            except ValueError as error:
                raise UsageError(f"{option_string}: {error}") from None
        namespace.worker = [*namespace.worker, option_string, *([] if self.nargs == 0 else [values])]


def parse_line(argv: Sequence[str], worker_options: Sequence[Option]) -> Line:
    """Split the arguments of a run; raises UsageError."""
    before, command = list(argv), None
    if "--" in before:
        cut = before.index("--")
        before, command = before[:cut], before[cut + 1 :]
    before = with_bare_values(before, worker_options)
    parser = line_parser(worker_options)
    namespace, unknown = parser.parse_known_args(
        before, argparse.Namespace(master={}, worker=[], log_flag="--log-file")
    )
    for flag in unknown:
        if hint := advice(flag):
            raise UsageError(f"{flag.partition('=')[0]}: {hint}")
        known = [flag for action in parser._actions for flag in action.option_strings]
        raise UsageError(f"unknown option {flag}{nearest(flag.partition('=')[0], known)} (see forkserve --help)")
    given = vars(namespace)
    positional = given.pop("positional")
    if positional and command is None and positional[0].isidentifier():
        _refuse_verb(positional)
    if len(positional) > 1:
        order = "; a command goes after --, and options before it"
        raise UsageError(f"one application is served, got {' '.join(positional)}{order}")
    return Line(**given, application=positional[0] if positional else None, command=command)


def _refuse_verb(words: Sequence[str]) -> None:
    """Refuse a verb of forkservectl, or a misspelt verb of ours, and say where it belongs."""
    # imported late: only a line that is wrong, or names a module and nothing else, needs it
    from forkserve.control.verbs import VERBS

    if words[0] in VERBS:
        line = " ".join(("forkservectl", *words))
        raise UsageError(f"{words[0]} is a verb of forkservectl: {line} (an application is given as {words[0]}:app)")
    if len(words) > 1 and (hint := nearest(words[0], ("check", "import", "options"))):
        raise UsageError(f"there is no verb {words[0]!r}{hint}")


def worker_flags(worker_options: Sequence[Option]) -> dict[str, Option]:
    """Return the worker's options that a line of forkserve passes through, by flag."""
    return {flag: each for each in worker_options for flag in each.cli if flag not in _OWN_FLAGS}


def line_parser(worker_options: Sequence[Option]) -> argparse.ArgumentParser:
    """Return the parser of `forkserve`."""
    parser = _Parser(
        prog="forkserve",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("positional", nargs="*", help=argparse.SUPPRESS)
    _add_what(parser.add_argument_group("what to run"))
    _add_sockets(parser.add_argument_group("sockets"))
    _add_processes(parser.add_argument_group("processes (with -c, set these in the file)"))
    _add_master(parser.add_argument_group("the master"))
    _add_worker(parser.add_argument_group("short form: passed on to forkserve-worker"), worker_options)
    return parser


def _add_what(group: Any) -> None:
    group.add_argument("-c", "--config", metavar="FILE", help="INI (Circus's grammar) or TOML file to run")
    group.add_argument(*_PASTE, metavar="FILE.ini", help="PasteDeploy file with the application")
    group.add_argument(
        "--check-config",
        action="store_true",
        help="Load the application or the file, report whether it is valid, and exit",
    )
    group.add_argument(
        "--print-config", action="store_true", help="Print the command line as a TOML file for -c, and exit"
    )
    group.add_argument(
        "--end-orphans",
        action="store_true",
        help="End the processes that a killed master of this configuration has left (on_master_death); exit when all "
        "have ended",
    )
    group.add_argument("-h", "--help", action="help", help="Show this help")
    group.add_argument("-v", "--version", action="version", version=f"forkserve {__version__}", help="Show the version")


def _add_sockets(group: Any) -> None:
    group.add_argument(
        "--fd-socket",
        dest="fd_sockets",
        action="append",
        default=[],
        metavar="NAME=ADDRESS",
        help="Listen at ADDRESS with a socket called NAME; repeatable",
    )
    group.add_argument(
        "-b",
        "--bind",
        dest="binds",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="The same, called web, web2, ...; 127.0.0.1:8000 if the short form has none",
    )
    group.add_argument("--backlog", metavar="N", help="Connections that may wait to be accepted (2048)")
    group.add_argument("--reuse-port", action="store_true", help="Give each process its own queue (SO_REUSEPORT)")


def _add_processes(group: Any) -> None:
    group.add_argument(
        "-w",
        "--workers",
        metavar="N|auto",
        help="Processes to keep running; auto is one per usable CPU, as memory allows",
    )
    group.add_argument("-u", "--user", metavar="USER", help="User to run the processes as")
    group.add_argument("-g", "--group", metavar="GROUP", help="Group to run the processes as")
    group.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Environment variable for all processes, also with -c; repeatable",
    )
    group.add_argument("--chdir", metavar="DIR", help="Directory to change to before anything starts, also with -c")
    group.add_argument(*_GRACE, metavar="SECONDS", help="Seconds from the stop signal to SIGKILL (30)")
    group.add_argument(
        "--drain-delay", metavar="SECONDS", help="Seconds to serve on before a stop, while not ready (0)"
    )
    group.add_argument("--logs-kept", metavar="SIZE", help="Output to keep for `forkservectl logs`, such as 64K (none)")
    group.add_argument(
        *_LOG_OF_ALL,
        dest="log_file",
        action=_LogFlag,
        metavar="WHERE",
        help="Where the master and the workers log: - (stderr) or a file",
    )
    group.add_argument(
        "--capture-output", action="store_true", help="Write the output of the processes to --log-file, too"
    )
    group.add_argument(
        "-R", "--enable-stdio-inheritance", action="store_const", const=False, dest="capture_output",
        help="Accepted for Gunicorn; by default processes write to the output of the master",
    )  # fmt: skip


def _add_master(group: Any) -> None:
    for each in options_of(MasterOptions):
        if each.cli:
            takes = {"nargs": 0} if each.parse is boolean else {"metavar": _metavar(each)}
            group.add_argument(
                *each.cli, dest=each.name, action=_MasterFlag, default=argparse.SUPPRESS, help=_help(each), **takes
            )


def _add_worker(group: Any, worker_options: Sequence[Option]) -> None:
    flags = worker_flags(worker_options)
    for name, each in {option.name: option for option in flags.values()}.items():
        takes: dict[str, Any] = {"nargs": 0} if each.parse is boolean else {"metavar": _metavar(each)}
        takes |= {"option": each, "action": _WorkerFlag, "help": _help(each)}
        mine = [flag for flag in each.cli if flag in flags]
        group.add_argument(*mine, dest=f"worker_{name}", default=argparse.SUPPRESS, **takes)


def _metavar(option: Option) -> str:
    return option.metavar or "|".join(option.choices) or option.name.upper()


def _help(option: Option) -> str:
    sentence = option.help.rstrip(".")
    default = default_text(option)
    shown = "" if default in ("none", "required", "false") else f" ({default})"
    return f"{sentence}{shown}".replace("%", "%%")
