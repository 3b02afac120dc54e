"""The command line of forkservectl, made from the declarations of the verbs.

A positional parameter of a verb is a word, any other a flag: a boolean with the default false is `--name`, one with the
default true is `--no-name`. Flags with an underscore, in circusctl's spelling, are accepted too.

Rules: it knows how parameters are declared, and no particular one except `waiting`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from forkserve import __version__
from forkserve.cli.helptext import CommandLineParser
from forkserve.cli.ownverbs import ALL_VERBS
from forkserve.cli.top.rows import SORTS
from forkserve.control.matching import MATCHES
from forkserve.control.verbs import VERBS, Verb
from forkserve.errors import UsageError
from forkserve.suggest import nearest

__all__ = ["ctl_parser", "options_of", "parameters_of"]

Arguments = argparse.Namespace


SHORTEST = 0.2
"""Least number of seconds between two updates of `top`."""
_JSON = {"--json": "print the answer as JSON", "--prettify": "accepted for Circus: --json is indented anyway"}


def ctl_parser() -> argparse.ArgumentParser:
    """Return the parser; `arguments.verb` is the declaration of the verb that was typed."""
    parser = _Parser(
        prog="forkservectl",
        description="Control a running forkserve. Without a verb, at a terminal, it starts a shell.",
        epilog="Exit codes: 0 done, 1 refused (status: something is fatal), 2 bad usage, 75 no answer in time; "
        "run exits with the code of the run.",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="control the forkserve that runs this configuration file"
    )
    parser.add_argument("-n", "--name", dest="instance", metavar="NAME", help="control the forkserve with this --name")
    help = "path of the control socket, if not the default"
    parser.add_argument("--socket", "--control", dest="control_socket", metavar="PATH", help=help)
    parser.add_argument("--timeout", type=_finite, metavar="SECONDS", help="longest time to wait for an answer")
    for flag, help in _JSON.items():
        parser.add_argument(flag, action="store_true", help=help)
    parser.add_argument("--version", action="version", version=f"forkservectl {__version__}")
    parser.set_defaults(verb=None)
    parsers = parser.add_subparsers(title="verbs", metavar="VERB")
    for verb in ALL_VERBS.values():
        _add(parsers, verb)
    _add_listen(parsers)
    parser.verbs = parsers.choices
    return parser


def _add_listen(parsers: Any) -> None:
    """Add Circus's name for `events -f`."""
    help = "Print what happens, as events -f does."
    parser = parsers.add_parser("listen", help=help, description=help)
    parser.add_argument("watcher", nargs="?", help="only events of this watcher")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_JSON["--json"])
    parser.set_defaults(verb=VERBS["events"], follow=True, lines=None)


def parameters_of(arguments: Arguments) -> dict[str, Any]:
    """Return the parameters of the verb that was typed, missing ones as None."""
    return {each.name: getattr(arguments, each.name, None) for each in _fields(arguments.verb)}


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Return options from `NAME=VALUE` words, or from pairs of words, NAME VALUE, as for circusctl."""
    if all("=" in word for word in words):
        return dict(word.split("=", 1) for word in words)
    if len(words) % 2:
        raise UsageError(f"expected NAME=VALUE, or NAME VALUE, got {' '.join(words)!r}")
    return dict(zip(words[::2], words[1::2], strict=True))


def _finite(text: str) -> float:
    """Parse a number that JSON has, too."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return value


def _interval(text: str) -> float:
    if not SHORTEST <= _finite(text) <= 3600:
        raise argparse.ArgumentTypeError(f"expected {SHORTEST:g} to 3600 seconds, got {text!r}")
    return float(text)


class _Parser(CommandLineParser):
    """Reports an error in one line, with the nearest verb or flag."""

    verbs: Mapping[str, argparse.ArgumentParser] = {}
    """The parsers of the verbs."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = next((name for name, each in self.verbs.items() if each.get_default("verb") is found.verb), "")
            parser = self.verbs.get(name, self)
            flag = next((word.partition("=")[0] for word in unknown if word.startswith("--")), "")
            hint = nearest(flag, parser._option_string_actions) if flag else ""
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)}{hint} (see {parser.prog} --help)")
        return found

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument VERB: invalid choice"):
            word, verbs = message.split("'")[1], message.partition("choose from")[2]
            message = f"there is no verb {word!r}{nearest(word, re.findall('[a-z]+', verbs))}"
        raise UsageError(f"{message} (see {self.prog} --help)")


def _add(parsers: Any, verb: Verb) -> None:
    parser: argparse.ArgumentParser = parsers.add_parser(verb.name, help=verb.summary, description=verb.summary)
    for flag in ("--json", "--prettify"):
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=_JSON[flag])
    parser.set_defaults(verb=verb)
    fields = {each.name: each for each in _fields(verb)}
    for name in verb.words:
        _add_word(parser, fields.pop(name))
    if verb.name in _WRITTEN_OUT:
        _WRITTEN_OUT[verb.name](parser)
    for name in _NOT_TYPED.get(verb.name, ()):
        del fields[name]
    for field in fields.values():
        _add_flag(parser, field)


def _fields(verb: Verb) -> tuple[msgspec.inspect.Field, ...]:
    info = msgspec.inspect.type_info(verb.parameters)
    assert isinstance(info, msgspec.inspect.StructType)
    return info.fields


def _add_word(parser: argparse.ArgumentParser, field: msgspec.inspect.Field) -> None:
    kind, help = _kind(field)
    if isinstance(kind, msgspec.inspect.DictType | msgspec.inspect.ListType):
        metavar = "NAME=VALUE" if isinstance(kind, msgspec.inspect.DictType) else field.name.upper()
        parser.add_argument(field.name, nargs="+", metavar=metavar, help=help)
        return
    if field.name == "cmd":  # the words of a command, or one that is quoted
        parser.add_argument(field.name, nargs="+", metavar="CMD", help=help)
        return
    nargs = None if field.required else "?"
    default = None if field.required else _default(field)
    choices = _choices(kind)
    shown = "|".join(choices) if choices else None
    parser.add_argument(
        field.name, nargs=nargs, default=default, type=_reader(kind), choices=choices, metavar=shown, help=help
    )


def _add_flag(parser: argparse.ArgumentParser, field: msgspec.inspect.Field) -> None:
    kind, help = _kind(field)
    flags = list(dict.fromkeys((f"--{field.name.replace('_', '-')}", f"--{field.name}")))
    if field.name == "waiting":
        parser.add_argument(
            "--no-wait", dest="waiting", action="store_false", default=True, help="do not wait until the work is done"
        )
        parser.add_argument("--waiting", action="store_true", help="accepted for Circus: the default")
    elif isinstance(kind, msgspec.inspect.DictType):
        parser.add_argument(
            "-o", "--option", dest=field.name, action="append", metavar="NAME=VALUE", help=help, default=None
        )
    elif isinstance(kind, msgspec.inspect.BoolType) and field.default is True:
        off = [f"--no-{each.removeprefix('--')}" for each in flags]
        parser.add_argument(*off, dest=field.name, action="store_false", default=None, help=help)
    elif isinstance(kind, msgspec.inspect.BoolType):
        parser.add_argument(*flags, dest=field.name, action="store_true", default=None, help=help)
    else:
        metavar = "N" if _reader(kind) is int else "SECONDS" if _reader(kind) is _finite else field.name.upper()
        choices = _choices(kind)
        metavar = "|".join(choices) if choices else metavar
        parser.add_argument(*flags, dest=field.name, type=_reader(kind), choices=choices, metavar=metavar, help=help)


def _add_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="print new events as they happen")
    parser.add_argument(
        "-n", "--lines", type=int, metavar="N", help="the last N events (all that are kept; none with -f)"
    )


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="print new output as it is written")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="the last N lines (all that are kept; 10 with -f)")
    parser.add_argument("-t", "--time", action="store_true", help="prefix each line with the time when it was written")
    parser.add_argument("--raw", action="store_true", help="print control characters as they are, not as escapes")


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print one page and exit, as without a terminal")
    parser.add_argument("--sort", choices=tuple(SORTS), default="name", help="column to sort by")
    parser.add_argument("--interval", type=_interval, default=2.0, metavar="SECONDS", help="time between updates (2)")


def _add_match(parser: argparse.ArgumentParser) -> None:
    help = "how to match the name: glob (such as 'web*'; the default), regex, or simple (the name itself)"
    parser.add_argument("--match", choices=MATCHES, default="glob", metavar="HOW", help=help)


def _add_signal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pid", type=int, metavar="N", help="only to this process")
    parser.add_argument("more", nargs="?", metavar="SIGNAL", help="the signal, if the word before is a pid (Circus)")


def _kind(field: msgspec.inspect.Field) -> tuple[msgspec.inspect.Type, str]:
    """Return the type of a parameter, without None for optional ones, and its help text."""
    kind, help = field.type, ""
    if isinstance(kind, msgspec.inspect.Metadata):
        help = str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        kinds = [each for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
        kind = kinds[0] if len(kinds) == 1 else msgspec.inspect.StrType()
    return kind, help


def _default(field: msgspec.inspect.Field) -> Any:
    return None if field.default is msgspec.NODEFAULT else field.default


_READERS: Mapping[type[msgspec.inspect.Type], Callable[[str], Any]] = {
    msgspec.inspect.IntType: int,
    msgspec.inspect.FloatType: _finite,
}


def _choices(kind: msgspec.inspect.Type) -> tuple[str, ...] | None:
    return tuple(map(str, kind.values)) if isinstance(kind, msgspec.inspect.LiteralType) else None


def _reader(kind: msgspec.inspect.Type) -> Callable[[str], Any]:
    return _READERS.get(type(kind), str)


_WRITTEN_OUT: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "events": _add_events,
    "logs": _add_logs,
    "top": _add_top,
    "start": _add_match,
    "stop": _add_match,
    "restart": _add_match,
    "signal": _add_signal,
}
"""Verbs with more on their line than their parameters."""

_NOT_TYPED: Mapping[str, tuple[str, ...]] = {
    "events": ("follow", "last", "after"),
    "logs": ("follow", "last"),
    "top": ("pss",),
    "start": ("watchers",),
    "stop": ("watchers",),
    "restart": ("watchers",),
    "signal": ("pid",),
}
"""Parameters that a verb takes in another form."""
