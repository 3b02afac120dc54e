"""The arguments of `forkserve-worker`, made from the declarations of its options.

Rules: no flag of an option is written here. A value is parsed and checked by its declaration; an empty environment
variable counts as unset.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from forkserve import __version__
from forkserve.cli.helptext import CommandLineParser, HelpFormatter
from forkserve.cli.peers import advice
from forkserve.cli.spellings import as_typed, spellings
from forkserve.config.defaults import default_text
from forkserve.config.launch import WorkerOptions
from forkserve.config.options import Option, options_of, slices_of, with_bare_values
from forkserve.config.serving import ServingOptions
from forkserve.config.values import boolean
from forkserve.errors import UsageError
from forkserve.serving.inherited import QUOTING
from forkserve.suggest import nearest

__all__ = ["Program", "WorkerInvocation", "flags_of", "parse_worker_line", "program_parser", "read_worker_line"]

T = TypeVar("T")

USAGE = """\
forkserve-worker --fd '$(circus.sockets.web)' [OPTIONS] APPLICATION
       forkserve-worker --bind ADDRESS [OPTIONS] APPLICATION
       forkserve-worker --list-backends [--json]"""

DESCRIPTION = """\
Serves a WSGI or ASGI application on a socket inherited from forkserve, circusd
or systemd, or on one that it binds.

  forkserve-worker --bind :8000 --reload myapp:app
  forkserve --fd-socket web=:8000 -- \\
      forkserve-worker --fd '$(circus.sockets.web)' -k gevent myapp:app

APPLICATION is module:attr, module:attr.sub, module:factory('with', literals=1),
module, package.module.attr, path/to/file.py[:attr], or FILE.ini[#name] for
PasteDeploy."""

EPILOG = """\
signals: TERM and QUIT finish requests in flight and end; INT ends at once; HUP
reloads the code on the same socket; USR1 reopens log files
exit codes: 0 ordered stop, 2 usage, 3 application, 69 cannot bind, 75 requests
cut at the graceful timeout, 77 no permission, 78 backend"""

GROUPS = {
    "ApplicationOptions": "application",
    "ListenOptions": "sockets",
    "ReloadOptions": "development",
    "ProcessOptions": "process",
    "Concurrency": "concurrency",
    "HttpLimits": "limits of a request",
    "ParserOptions": "parser of requests",
    "Timeouts": "time limits",
    "ProxyOptions": "behind a proxy",
    "AccessLogOptions": "access log",
    "Lifetime": "recycling (another worker takes the place)",
    "AsgiOptions": "ASGI",
    "TlsOptions": "TLS",
    "StaticOptions": "static files",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A serving command: its name, and its texts."""

    name: str
    usage: str
    description: str
    takes_words: bool = False
    """Whether words after the application are for it; otherwise they are a mistake."""
    helps: Mapping[str, str] = field(default_factory=dict)
    """Its help of an option, by name, if its default differs."""


WORKER = Program("forkserve-worker", USAGE, DESCRIPTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInvocation:
    """The request of one call of the command: to serve, unless one of the others is set."""

    options: WorkerOptions
    list_backends: bool = False
    json: bool = False
    install_backend: str | None = None
    check: bool = False


class _Flag(argparse.Action):
    """Keeps the text of an option, or its texts in order, and the flag that it was given by."""

    def __init__(self, *, many: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self.many = many

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        text = self.const if self.nargs == 0 else values
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, ()), text] if self.many else text)
        namespace.typed[self.dest] = option_string


class _Parser(CommandLineParser):
    def error(self, message: str) -> NoReturn:
        if message == "argument --fd: expected one argument":
            message = f"--fd has no number: if the shell has taken the placeholder for itself, {QUOTING}"
        raise UsageError(f"{message} (see {self.prog} --help)")


def parse_worker_line(argv: Sequence[str], environ: Mapping[str, str], program: Program = WORKER) -> WorkerInvocation:
    """Parse the arguments; raises UsageError, and SystemExit for --help and --version."""
    order, faults = read_worker_line(argv, environ, program)
    if faults:
        raise UsageError(faults[0])
    return order


def read_worker_line(
    argv: Sequence[str], environ: Mapping[str, str], program: Program = WORKER
) -> tuple[WorkerInvocation, list[str]]:
    """Return the parsed arguments, and everything that is wrong with them, with defaults in place of invalid values.

    Raises UsageError for a flag without its value, and SystemExit for --help and --version.
    """
    faults: list[str] = []
    parser = program_parser(program)
    argv, behind = _split(argv) if program.takes_words else (argv, [])
    options = [each for part in slices_of(WorkerOptions) for each in options_of(part)]
    namespace, rest = parser.parse_known_args(with_bare_values(argv, options), argparse.Namespace(typed={}))
    known = [flag for action in parser._actions for flag in action.option_strings]
    flags = [word for word in rest if word.startswith("-")]
    for flag in flags:
        name = flag.partition("=")[0]
        hint = advice(flag, worker=True)
        faults.append(f"{name}: {hint}" if hint else f"unknown option {flag}{nearest(name, known)}")
    given = vars(namespace)
    typed = _long(given.pop("typed"), options)
    words = [word for word in (*given.pop("positional"), *rest) if word not in flags] + behind
    if program.takes_words and len(words) > 1:
        words, given["arguments"] = words[:1], words[1:]
    elif len(words) > 1 and not flags:  # else one of them may be the value of an unknown flag
        faults.append(f"one application is served, got {' '.join(words)}")
    own = {name: given.pop(name) for name in ("list_backends", "json", "install_backend", "check")}
    if words:
        given["application"] = words[-1]
    built = _build(given, environ, faults)
    flags_given = {name: typed.get(name, name) for name in given}
    faults = [as_typed(fault, spellings(options, typed)) for fault in faults]
    return WorkerInvocation(options=dataclasses.replace(built, given=flags_given), **own), faults


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what comes before the word -- and what comes after it."""
    at = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:at]), list(argv[at + 1 :])


def _long(typed: Mapping[str, str], options: Sequence[Option]) -> dict[str, str]:
    """Return the typed flags by the names of their options, with short flags replaced by long ones."""
    words = {each.name: next((flag for flag in each.cli if flag.startswith("--")), "") for each in options}
    return {name: flag if flag.startswith("--") else words[name] for name, flag in typed.items()}


def flags_of(options: WorkerOptions) -> dict[str, str]:
    """Return how the flags that messages name were typed."""
    return spellings((each for part in slices_of(WorkerOptions) for each in options_of(part)), options.given)


def program_parser(program: Program) -> argparse.ArgumentParser:
    """Return the parser of a serving command."""
    parser = _Parser(
        prog=program.name,
        usage=program.usage,
        description=program.description,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("positional", nargs="*", help=argparse.SUPPRESS)
    for part in slices_of(WorkerOptions):
        group = parser.add_argument_group(GROUPS[part.__name__])
        for option in options_of(part):
            if option.cli:
                _add(group, dataclasses.replace(option, help=program.helps.get(option.name, option.help)))
    _add_verbs(parser.add_argument_group("instead of serving"), program.name)
    return parser


def _add_verbs(group: Any, name: str) -> None:
    group.add_argument("--list-backends", action="store_true", help="Show every backend: usable here, or how to get it")
    group.add_argument("--json", action="store_true", help="Show it as JSON")
    group.add_argument("--install-backend", metavar="NAME", help="Build and install a backend that pip cannot")
    group.add_argument(
        "--check",
        "--check-config",
        action="store_true",
        help="Load the application, report what would be served, and exit",
    )
    group.add_argument("-h", "--help", action="help", help="Show this help")
    group.add_argument("--version", action="version", version=f"{name} {__version__}", help="Show the version")


def _add(group: Any, option: Option) -> None:
    takes: dict[str, Any] = {"action": _Flag, "many": option.many}
    if option.parse is boolean:
        takes |= {"nargs": 0, "const": "true"}
    else:
        takes["metavar"] = option.metavar or "|".join(option.choices)
    default = default_text(option)
    shown = "" if default in ("none", "false", "") else f" ({default})"
    text = f"{option.help.rstrip('.')}{shown}".replace("%", "%%")
    group.add_argument(*option.cli, dest=option.name, default=argparse.SUPPRESS, help=text, **takes)


def _build(given: Mapping[str, Any], environ: Mapping[str, str], faults: list[str]) -> WorkerOptions:
    def slice_of(cls: Callable[[], T]) -> T:
        return cls(**_values(cls, given, environ, faults))

    serving = {field.name: slice_of(field.default_factory) for field in dataclasses.fields(ServingOptions)}  # type: ignore[arg-type]
    rest = {
        field.name: slice_of(field.default_factory)  # type: ignore[arg-type]
        for field in dataclasses.fields(WorkerOptions)
        if field.name not in ("given", "serving")
    }
    return WorkerOptions(**rest, serving=ServingOptions(**serving))


def _values(cls: Any, given: Mapping[str, Any], environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option in options_of(cls):
        label = option.cli[-1] if option.cli else option.name
        raw = given.get(option.name)
        if raw is None and option.env and environ.get(option.env, "").strip():
            raw, label = environ[option.env].strip(), f"environment {option.env}"
            raw = [raw] if option.many else raw
        if raw is None:
            continue
        label = next((flag for flag in option.cli if flag.startswith("--")), label) if option.name in given else label
        try:
            parsed = [option.read(text) for text in (raw if option.many else [raw])]
        except ValueError as error:
            faults.append(f"{label}: {error}")
            continue
        values[option.name] = tuple(parsed) if option.many else parsed[0]
    return values
