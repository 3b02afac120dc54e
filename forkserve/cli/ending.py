"""How a command of ours ends: whatever happened becomes an exit code, and a user's mistake one line on stderr.

Rules: the line begins with `NAME: error:`. Above it stands the traceback of the user's own code, if that failed; there
is never one of ours for a mistake of the user's.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from forkserve.errors import ConfigErrors, ExitCode, ForkserveError

__all__ = ["ended", "print_warnings"]


def ended(name: str, command: Callable[[], int]) -> int:
    """Run a command, by the name `name`, to its end, and return its exit code."""
    try:
        code = _code_of(command)
        # Here, where it can be told that the reader has gone, rather than when the interpreter ends.
        print(end="", flush=True)
        return code
    except ForkserveError as error:
        _print_error(name, error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a list has seen enough; nothing may be flushed into its pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _code_of(command: Callable[[], int]) -> int:
    try:
        return command()
    except SystemExit as done:
        # argparse ends --help and --version so.
        return int(done.code or 0)


def print_warnings(name: str, warnings: tuple[str, ...]) -> None:
    """Print what was noticed and is no error."""
    for warning in warnings:
        print(f"{name}: warning: {warning}", file=sys.stderr)


def _print_error(name: str, error: ForkserveError) -> None:
    if trace := getattr(error, "traceback", ""):
        print(trace, file=sys.stderr)
    if isinstance(error, ConfigErrors):
        print_warnings(name, error.warnings)
    for each in error.errors if isinstance(error, ConfigErrors) else (error,):
        print(f"{name}: error: {each}", file=sys.stderr)
