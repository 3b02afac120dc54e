"""Every exception that forkserve raises on purpose, and the exit code each one means.

Rule: a user's mistake is a `ForkserveError`. The command line prints its text as one line, without a traceback, and
exits with its `exit_code`. Any other exception that reaches the command line is a bug of ours.

Exit codes are those of sysexits(3) where one fits, 2 for usage as argparse and every shell tool have it, and 3 for an
application that cannot be loaded, as Gunicorn has it.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ApplicationError",
    "BackendError",
    "BindError",
    "ConfigError",
    "ConfigErrors",
    "ControlError",
    "FINAL",
    "ExitCode",
    "ForkserveError",
    "UnknownNameError",
    "UsageError",
]


class ExitCode(IntEnum):
    """What an exit status of forkserve, forkserve-worker and forkservectl means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    APPLICATION = 3
    CANNOT_BIND = 69
    GAVE_UP = 70
    TIMED_OUT = 75
    NO_PERMISSION = 77
    CONFIG = 78


FINAL = frozenset({ExitCode.USAGE, ExitCode.APPLICATION, ExitCode.NO_PERMISSION, ExitCode.CONFIG})
"""Codes by which forkserve-worker says that it can never start: its command line, its application, a permission, its
backend or configuration. Those of other programs mean whatever they like."""


class ForkserveError(Exception):
    """A failure that its reader can mend; the text says what and where."""

    exit_code: ExitCode = ExitCode.FAILURE


class UsageError(ForkserveError):
    """The command line does not fit."""

    exit_code = ExitCode.USAGE


class ConfigError(ForkserveError):
    """One value of the configuration is wrong; the text begins with its place, e.g. `circus.ini:14 [watcher:web]`."""

    exit_code = ExitCode.CONFIG


class ConfigErrors(ConfigError):
    """All errors found in one reading of a configuration, a line each; `warnings` are what else was noticed."""

    def __init__(self, errors: tuple[ConfigError, ...], warnings: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors
        self.warnings = warnings

    def __reduce__(self) -> tuple[type[ConfigErrors], tuple[tuple[ConfigError, ...], tuple[str, ...]]]:
        """Pickle the parts, not the text alone: a configuration is read by a child of the master."""
        return type(self), (self.errors, self.warnings)


class BindError(ForkserveError):
    """A listening socket cannot be had."""

    exit_code = ExitCode.CANNOT_BIND


class ApplicationError(ForkserveError):
    """The WSGI or ASGI application cannot be imported, or is not callable."""

    exit_code = ExitCode.APPLICATION


class BackendError(ForkserveError):
    """The chosen backend cannot serve here: not installed, or not with these options."""

    exit_code = ExitCode.CONFIG


class ControlError(ForkserveError):
    """The master refused a command, or cannot be reached; `code` says why in a word that a program can read."""

    code = "refused"


class UnknownNameError(ControlError):
    """There is no watcher or socket of that name, or no process of that number."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code
