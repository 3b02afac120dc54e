"""What the programs beside the master share: arguments, log, title, an end by SIGTERM, and patience in a shortage."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from forkserve import logs
from forkserve.errors import ExitCode, ForkserveError
from forkserve.unix.proctitle import set_title

__all__ = ["Serve", "ShortageHandler", "parser_of", "run"]

Serve = Callable[[argparse.Namespace, asyncio.Event], Awaitable[None]]
"""Serves until the event is set; raises ForkserveError for what the user can fix."""


_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_QUIET = 60.0
"""Seconds in which a shortage is reported once."""


class ShortageHandler:
    """The exception handler of an asyncio loop that reports a shortage of descriptors or memory by one line.

    asyncio itself takes up accepting again after a second, but it logs a traceback for each of a hundred attempts.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._quiet_until = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Called by the loop for an exception that nothing has caught; see `loop.call_exception_handler`."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _SHORT_OF:
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + _QUIET
            self._log.warning(
                "no connection can be accepted: %s; clients wait, tried again each second", error.strerror
            )


def parser_of(name: str, *, needs_control: bool = True) -> argparse.ArgumentParser:
    """Return a parser of the arguments common to all."""
    parser = argparse.ArgumentParser(prog=name, allow_abbrev=False)
    parser.add_argument("--control", required=needs_control, type=Path)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-output", default="-")
    return parser


def run(serve: Serve, arguments: argparse.Namespace, *, title: str, log: logging.Logger) -> int:
    """Serve until SIGTERM; SIGINT is left to the master. Returns the exit code."""
    logs.set_up(arguments.log_level, arguments.log_output)
    logs.watch_file()
    set_title(title)
    try:
        asyncio.run(_until_sigterm(serve, arguments, log))
    except ForkserveError as error:
        log.error("%s", error)
        return error.exit_code
    return ExitCode.OK


async def _until_sigterm(serve: Serve, arguments: argparse.Namespace, log: logging.Logger) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(ShortageHandler(log))
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    await serve(arguments, ending)
