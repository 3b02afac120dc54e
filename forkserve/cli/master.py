"""The command `forkserve`: its verbs and what they print."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from forkserve.cli.arguments import Line, parse_line
from forkserve.cli.ending import ended, print_warnings, say
from forkserve.cli.line import source_of
from forkserve.cli.spellings import in_typed_words, spellings
from forkserve.config.cpus import automatic_processes
from forkserve.config.document import Findings
from forkserve.config.handover import FAILED, REHEARSE, TAKE_OVER
from forkserve.config.load import ConfigSource, FileSource, LineSource
from forkserve.config.model import Config, MasterOptions
from forkserve.config.options import options_of
from forkserve.config.reference import markdown, render, worker_options
from forkserve.config.writing import as_toml
from forkserve.errors import ExitCode, UsageError
from forkserve.unix.home import remember, started_by
from forkserve.unix.proctitle import prepare_title

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `forkserve` with these arguments, by default the process's own; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return ended("forkserve", lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int:
    verbs = {
        "check": _check,
        "options": _options,
        "import": _import,
        "man": _man,
        REHEARSE: _rehearse,
        TAKE_OVER: _take_over,
    }
    verb = verbs.get(arguments[0]) if arguments else None
    return verb(arguments[1:]) if verb else _run(arguments)


def _check(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        say("usage: forkserve check FILE\n\nReads FILE and reports every mistake at once; binds and runs nothing.\n")
        return ExitCode.OK
    if arguments and arguments[0] in ("-c", "--config"):  # as in the line that runs it
        arguments = arguments[1:]
    if len(arguments) != 1 or (arguments[0].startswith("-") and arguments != ["-"]):
        raise UsageError("usage: forkserve check FILE")
    return _judge(FileSource(arguments[0], examine=_examine))


def _judge(source: ConfigSource) -> int:
    config = source.read()
    print_warnings("forkserve", config.warnings)
    say(f"{source.description}: fine ({_count(config.sockets, 'socket')}, {_count(config.watchers, 'watcher')})\n")
    return ExitCode.OK


def _examine(config: Config, environ: Mapping[str, str], findings: Findings) -> None:
    # imported late: it is the worker's half of the program
    from forkserve.cli.checking import examine

    examine(config, environ, findings)


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


def _import(arguments: list[str]) -> int:
    # imported late: it is done once
    from forkserve.cli.importing.command import run_import

    return run_import(arguments)


def _man(arguments: list[str]) -> int:
    # imported late: it has the parsers of all commands
    from forkserve.cli.manpages import PAGES, man_page, write_pages

    usage = f"usage: forkserve man [{' | '.join(PAGES)} | --to DIR]"
    if set(arguments) & {"-h", "--help"}:
        say(f"{usage}\n\nPrints a manual page (forkserve man | man -l -), or writes all of them into DIR.\n")
    elif len(arguments) == 2 and arguments[0] == "--to":
        say("".join(f"{path}\n" for path in write_pages(Path(arguments[1]))))
    elif len(arguments) > 1 or not set(arguments) <= set(PAGES):
        raise UsageError(usage)
    else:
        say(man_page(arguments[0] if arguments else PAGES[0]))
    return ExitCode.OK


def _rehearse(arguments: list[str]) -> int:
    """Report whether this program could take over from a running one; executed by that."""
    # imported late: few start so
    from forkserve.bootstrap.upgrading import rehearse

    say(f"{rehearse(_descriptor(arguments))}\n")
    return ExitCode.OK


def _take_over(arguments: list[str]) -> int:
    """Go on in the process of another program; executed by that."""
    from forkserve.bootstrap.upgrading import take_over

    failed = arguments[2] if len(arguments) == 3 and arguments[1] == FAILED else ""
    return take_over(_descriptor(arguments), failed)


def _descriptor(arguments: list[str]) -> int:
    if not arguments or not arguments[0].isdecimal():
        raise UsageError("forkserve is upgraded by `forkservectl upgrade`")
    return int(arguments[0])


def _run(arguments: list[str]) -> int:
    command = started_by(arguments)
    line = parse_line(arguments, worker_options())
    prepare_title()
    remember(os.environ)
    source = source_of(line, os.environ, cpus=automatic_processes, worker_options=worker_options())
    if line.chdir is not None:
        _change_directory(line.chdir)
    if line.print_config:
        return _print_config(source)
    if line.check_config:
        return _check_line(line, source)
    config = source.read()
    # imported late: --help and check need none of it
    from forkserve.bootstrap import end_orphans, run

    if line.end_orphans:
        say(f"{end_orphans(config, source)}\n")
        return ExitCode.OK

    with in_typed_words(_spellings(config)):
        return run(config, source, command)


def _spellings(config: Config) -> dict[str, str]:
    """Return by what the master's options were given, a flag or a line of a file, for the flags in messages."""
    said = {
        each.name: str(origin).removeprefix("argument ")
        if origin.source.startswith("argument ")
        else f"{origin} {each.name}"
        for each in options_of(MasterOptions)
        if (origin := config.origins.get(("circus", each.name))) is not None
    }
    return spellings(options_of(MasterOptions), said)


def _print_config(source: ConfigSource) -> int:
    if not isinstance(source, LineSource):
        raise UsageError(f"--print-config prints a line as a file; {source.description} is one already")
    source.read()
    say(as_toml(source.sections, source.env))
    return ExitCode.OK


def _check_line(line: Line, source: ConfigSource) -> int:
    """Check a line as `forkserve check` checks a file, and load the application, as Gunicorn does."""
    if isinstance(source, FileSource | LineSource):
        source = dataclasses.replace(source, examine=_examine)
    if line.application is None and line.paste is None:
        return _judge(source)
    print_warnings("forkserve", source.read().warnings)
    # imported late: it is the worker's half of the program
    from forkserve.cli.worker import main as worker

    os.environ.update(source.env if isinstance(source, LineSource) else {})
    paste = [] if line.paste is None else ["--paste", line.paste]
    return worker(["--check", *line.worker, *paste, *([] if line.application is None else [line.application])])


def _change_directory(path: str) -> None:
    try:
        remember(os.environ, path)
    except OSError as error:
        raise UsageError(f"--chdir {path}: {error.strerror}") from None
