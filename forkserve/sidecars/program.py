"""What the programs beside the master share: arguments, log, title, and an end by SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from forkserve import logs
from forkserve.errors import ExitCode, ForkserveError
from forkserve.unix.proctitle import set_title

__all__ = ["Serve", "parser_of", "run"]

Serve = Callable[[argparse.Namespace, asyncio.Event], Awaitable[None]]
"""Serves until the event is set; raises ForkserveError for what the user can fix."""


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
        asyncio.run(_until_sigterm(serve, arguments))
    except ForkserveError as error:
        log.error("%s", error)
        return error.exit_code
    return ExitCode.OK


async def _until_sigterm(serve: Serve, arguments: argparse.Namespace) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    await serve(arguments, ending)
