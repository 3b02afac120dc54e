"""The command `forkserve`: its verbs and what they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from forkserve.cli.arguments import parse_line
from forkserve.cli.cpus import usable_cpus
from forkserve.cli.ending import ended, print_warnings, say
from forkserve.cli.line import source_of
from forkserve.config.load import load
from forkserve.config.reference import markdown, render, worker_options
from forkserve.errors import ExitCode, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `forkserve` with these arguments, by default the process's own; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return ended("forkserve", lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int:
    verbs = {"check": _check, "options": _options}
    verb = verbs.get(arguments[0]) if arguments else None
    return verb(arguments[1:]) if verb else _run(arguments)


def _check(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        say("usage: forkserve check FILE\n\nReads FILE and reports every mistake at once; binds and runs nothing.\n")
        return ExitCode.OK
    files = [each for each in arguments if not each.startswith("-") or each == "-"]
    if len(files) != 1 or len(arguments) != 1:
        raise UsageError("usage: forkserve check FILE")
    config = load(files[0])
    print_warnings("forkserve", config.warnings)
    say(f"{files[0]}: fine ({_count(config.sockets, 'socket')}, {_count(config.watchers, 'watcher')})\n")
    return ExitCode.OK


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _options(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        say("usage: forkserve options [NAME | --markdown]\n\nPrints every option, or those called NAME.\n")
    elif arguments == ["--markdown"]:
        say(markdown())
    elif len(arguments) > 1:
        raise UsageError("usage: forkserve options [NAME | --markdown]")
    else:
        say(render(*arguments))
    return ExitCode.OK


def _run(arguments: list[str]) -> int:
    line = parse_line(arguments, worker_options())
    source = source_of(line, os.environ, cpus=usable_cpus, worker_options=worker_options())
    if line.chdir is not None:
        _change_directory(line.chdir)
    config = source.read()
    # imported late: --help and check need none of it
    from forkserve.bootstrap import run

    return run(config, source=source)


def _change_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise UsageError(f"--chdir {path}: {error.strerror}") from None
