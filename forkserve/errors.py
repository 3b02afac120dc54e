"""Every exception that forkserve raises on purpose, and its exit code.

Rule: a user's mistake is a `ForkserveError`. The command line prints its text as one line, without a traceback, and
exits with its `exit_code`. Any other exception that reaches the command line is a bug of forkserve.

Exit codes are those of sysexits(3) if one fits, 2 for usage like argparse and every shell tool, and 3 for an
application that cannot be loaded, like Gunicorn.
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
    """The exit statuses of forkserve, forkserve-worker and forkservectl."""

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
backend or configuration. For other programs they have no special meaning.
"""


class ForkserveError(Exception):
    """A failure that the user can fix; the text says what and where."""

    exit_code: ExitCode = ExitCode.FAILURE


class UsageError(ForkserveError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE


class ConfigError(ForkserveError):
    """One value of the configuration is wrong; the text begins with its place, e.g. `circus.ini:14 [watcher:web]`."""

    exit_code = ExitCode.CONFIG


class ConfigErrors(ConfigError):
    """All errors found in one reading of a configuration, one a line; `warnings` are its other findings."""

    def __init__(self, errors: tuple[ConfigError, ...], warnings: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors
        self.warnings = warnings

    def __reduce__(self) -> tuple[type[ConfigErrors], tuple[tuple[ConfigError, ...], tuple[str, ...]]]:
        """Pickle the parts, not only the text: a child of the master reads configurations."""
        return type(self), (self.errors, self.warnings)


class BindError(ForkserveError):
    """A listening socket cannot be bound."""

    exit_code = ExitCode.CANNOT_BIND


class ApplicationError(ForkserveError):
    """The WSGI or ASGI application cannot be imported, or is not callable."""

    exit_code = ExitCode.APPLICATION


class BackendError(ForkserveError):
    """The chosen backend cannot serve here: not installed, or not with these options."""

    exit_code = ExitCode.CONFIG


class ControlError(ForkserveError):
    """The master refused a command, or cannot be reached; `code` is the reason as a word for programs."""

    code = "refused"


class UnknownNameError(ControlError):
    """There is no watcher or socket with that name, or no process with that number."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code
