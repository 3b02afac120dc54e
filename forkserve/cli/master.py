"""The command `forkserve`: verbs, printing and exit codes.

Rules: a user's mistake is one line on stderr that begins with `forkserve: error:`, and never a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence

from forkserve.cli.arguments import parse_line
from forkserve.cli.cpus import usable_cpus
from forkserve.cli.line import source_of
from forkserve.config.load import load
from forkserve.config.reference import markdown, render, worker_options
from forkserve.errors import ConfigErrors, ExitCode, ForkserveError, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `forkserve` with these arguments, by default the process's own; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except ConfigErrors as errors:
        _print_warnings(errors.warnings)
        for error in errors.errors:
            print(f"forkserve: error: {error}", file=sys.stderr)
        return errors.exit_code
    except ForkserveError as error:
        print(f"forkserve: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # the reader of a list has seen enough; nothing may be flushed into its pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as done:
        # argparse ends --help and --version so
        return int(done.code or 0)


def _dispatch(arguments: list[str]) -> int:
    verbs = {"check": _check, "options": _options}
    verb = verbs.get(arguments[0]) if arguments else None
    return verb(arguments[1:]) if verb else _run(arguments)


def _check(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        print("usage: forkserve check FILE\n\nReads FILE and reports every mistake at once; binds and runs nothing.")
        return ExitCode.OK
    files = [each for each in arguments if not each.startswith("-") or each == "-"]
    if len(files) != 1 or len(arguments) != 1:
        raise UsageError("usage: forkserve check FILE")
    config = load(files[0])
    _print_warnings(config.warnings)
    print(f"{files[0]}: fine ({_count(config.sockets, 'socket')}, {_count(config.watchers, 'watcher')})")
    return ExitCode.OK


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _options(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        print("usage: forkserve options [NAME | --markdown]\n\nPrints every option, or those called NAME.")
    elif arguments == ["--markdown"]:
        print(markdown(), end="", flush=True)
    elif len(arguments) > 1:
        raise UsageError("usage: forkserve options [NAME | --markdown]")
    else:
        print(render(*arguments), end="", flush=True)
    return ExitCode.OK


def _run(arguments: list[str]) -> int:
    line = parse_line(arguments, worker_options())
    source = source_of(line, os.environ, cpus=usable_cpus, worker_options=worker_options())
    if line.chdir is not None:
        _change_directory(line.chdir)
    config = source.read()
    # imported late: --help and check need none of it
    from forkserve.app import run

    return run(config, source=source)


def _change_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise UsageError(f"--chdir {path}: {error.strerror}") from None


def _print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"forkserve: warning: {warning}", file=sys.stderr)
