"""How our commands end: every outcome becomes an exit code, and a user's mistake one line on stderr.

Rules: the line begins with `NAME: error:`. Before it comes the traceback of the user's own code, if that failed; there
is never one of ours for a user's mistake. Control characters are escaped: what an application says may come from
elsewhere. When the reader is gone (`| head`), the rest is not printed, and the exit code is that of the command.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from forkserve.control.printable import printable
from forkserve.errors import ConfigErrors, ExitCode, ForkserveError

__all__ = ["ended", "print_warnings", "say", "tell"]

_LIMITS = {
    errno.EMFILE: "{limit} are allowed; raise that by `ulimit -n`, or LimitNOFILE= of the systemd unit",
    errno.ENFILE: "the whole machine has no more; raise fs.file-max by sysctl",
    errno.ENOMEM: "the machine, or the container, has no memory left",
}
"""Resources that every start needs, whichever part of it runs out first."""


def ended(name: str, command: Callable[[], int]) -> int:
    """Run a command called `name` to its end, and return its exit code."""
    try:
        code = _code_of(command)
        # Flush the application's output here, where an error can be reported, and not at the end of the interpreter.
        say("")
        return code
    except ForkserveError as error:
        _print_error(name, error)
        return error.exit_code
    except OSError as error:
        if error.errno not in _LIMITS:
            raise
        _print_error(name, ForkserveError(_short(error)))
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _short(error: OSError) -> str:
    """Return which limit was reached, and what raises it (getrlimit(2), proc_sys_fs(5))."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = error.errno or 0
    return f"{os.strerror(number).lower()}: {_LIMITS[number].format(limit=limit)}"


def say(text: str) -> None:
    """Print to standard output, at once; raises ForkserveError if that fails."""
    try:
        _write(sys.stdout, text)
    except OSError as error:
        raise ForkserveError(f"cannot write to standard output: {error.strerror}") from None


def tell(text: str) -> None:
    """Print to standard error; what cannot be written is dropped, since there is no other place for it."""
    try:
        _write(sys.stderr, text)
    except OSError:
        return


def print_warnings(name: str, warnings: tuple[str, ...]) -> None:
    """Print what was noticed and is no error."""
    for warning in warnings:
        tell(f"{name}: warning: {warning}\n")


def _write(stream: TextIO | None, text: str) -> None:
    """Write and flush; nothing is left in a buffer that the interpreter would fail to flush when it ends."""
    # None when its descriptor was closed before the start (`>&-`), closed when an application has done so.
    if stream is None or stream.closed:
        return
    encoding = stream.encoding or "utf-8"
    try:
        if text:  # an unbuffered stream writes nothing as well, which stops a background job under `stty tostop`
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        _silence(stream)
        if not isinstance(error, BrokenPipeError):
            raise


def _silence(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _code_of(command: Callable[[], int]) -> int:
    try:
        return command()
    except SystemExit as done:
        # argparse ends --help and --version so.
        return int(done.code or ExitCode.OK)


def _print_error(name: str, error: ForkserveError) -> None:
    if trace := getattr(error, "traceback", ""):
        tell(f"{printable(trace)}\n")
    if isinstance(error, ConfigErrors):
        print_warnings(name, error.warnings)
    for each in error.errors if isinstance(error, ConfigErrors) else (error,):
        tell(f"{name}: error: {printable(str(each))}\n")
