"""The program that serves Circus's endpoints: `python -m forkserve.sidecars.circus --control PATH --endpoint ADDRESS`.

forkserve starts it when an endpoint is configured, and replaces it when it has died. It ends by SIGTERM, which
forkserve sends when all watchers have stopped; clients that wait for that are answered first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import zmq
import zmq.asyncio

from forkserve import logs
from forkserve.control.asyncclient import AsyncControlClient
from forkserve.errors import ExitCode, ForkserveError
from forkserve.sidecars.circus.commands import dispatch
from forkserve.sidecars.circus.desk import Desk
from forkserve.sidecars.circus.endpoint import CircusEndpoint
from forkserve.sidecars.circus.sockets import bound
from forkserve.unix.proctitle import set_title

__all__ = ["main"]

log = logging.getLogger("forkserve.circus")

LAST_ANSWERS = 1.0
"""Seconds at the end in which answers may still be given."""


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    arguments = _parser().parse_args()
    logs.set_up(arguments.log_level, arguments.log_output)
    set_title("forkserve: circus endpoint")
    try:
        asyncio.run(_serve(arguments))
    except ForkserveError as error:
        log.error("%s", error)
        return error.exit_code
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="forkserve-circus", allow_abbrev=False)
    parser.add_argument("--control", required=True, type=Path)
    parser.add_argument("--endpoint")
    parser.add_argument("--owner")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-output", default="-")
    return parser


async def _serve(arguments: argparse.Namespace) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    is_owned = arguments.endpoint is not None and arguments.endpoint.startswith("ipc://")
    client = AsyncControlClient(arguments.control, connections=128)
    desk = Desk(client, ending, arguments.owner if is_owned else None)
    async with _context() as context:
        tasks = []
        if arguments.endpoint:
            router = bound(context, zmq.ROUTER, arguments.endpoint, owner=arguments.owner)
            endpoint = CircusEndpoint(router, partial(dispatch, desk))
            tasks.append(asyncio.create_task(endpoint.serve()))
        await ending.wait()
        for task in tasks:
            task.cancel()
        if arguments.endpoint:
            await endpoint.drain(LAST_ANSWERS)


@contextlib.asynccontextmanager
async def _context() -> AsyncIterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    try:
        yield context
    finally:
        context.destroy(linger=500)


if __name__ == "__main__":
    sys.exit(main())
