"""The program that serves Circus's endpoints: `python -m forkserve.sidecars.circus --control PATH --endpoint ADDRESS`.

forkserve starts it when an endpoint is configured, and replaces it when it has died. It ends by SIGTERM, which
forkserve sends when all watchers have stopped; clients that wait for that are answered first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import zmq
import zmq.asyncio

from forkserve.control.asyncclient import AsyncControlClient
from forkserve.sidecars.circus.commands import dispatch
from forkserve.sidecars.circus.endpoint import CircusEndpoint
from forkserve.sidecars.circus.publishing import Publisher, publish_events
from forkserve.sidecars.circus.service import CircusService
from forkserve.sidecars.circus.sockets import bound
from forkserve.sidecars.circus.stats import publish_stats
from forkserve.sidecars.program import parser_of, run

__all__ = ["main"]

log = logging.getLogger("forkserve.circus")

C = TypeVar("C", bound=zmq.Context[Any])

LINGER = 300
"""Milliseconds for which a closed socket still sends."""
LAST_ANSWERS = 1.0
"""Seconds at the end in which answers may still be sent."""


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    return run(_serve, _parser().parse_args(), title="forkserve: circus endpoint", log=log)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("forkserve-circus")
    parser.add_argument("--endpoint")
    parser.add_argument("--pubsub")
    parser.add_argument("--stats")
    parser.add_argument("--owner")
    return parser


async def _serve(arguments: argparse.Namespace, ending: asyncio.Event) -> None:
    is_owned = arguments.endpoint is not None and arguments.endpoint.startswith("ipc://")
    client = AsyncControlClient(arguments.control, connections=128)
    service = CircusService(client, ending, arguments.owner if is_owned else None, bool(arguments.stats))
    with _ending(zmq.asyncio.Context()) as context, _ending(zmq.Context()) as plain, contextlib.ExitStack() as files:
        work: list[Coroutine[Any, Any, None]] = []
        endpoint = None
        if arguments.endpoint:
            router = bound(context, zmq.ROUTER, arguments.endpoint, files, owner=arguments.owner)
            endpoint = CircusEndpoint(router, partial(dispatch, service))
            work.append(endpoint.serve())
        if arguments.pubsub:
            pubsub = bound(plain, zmq.XPUB, arguments.pubsub, files)
            work.append(publish_events(client, Publisher(pubsub, "pubsub_endpoint")))
        if arguments.stats:
            stats = bound(plain, zmq.XPUB, arguments.stats, files)
            work.append(publish_stats(service, Publisher(stats, "stats_endpoint")))
        await _until(ending, work)
        if endpoint is not None:
            await endpoint.drain(LAST_ANSWERS)


async def _until(ending: asyncio.Event, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run everything until the end; a failure is a bug, and ends this program, which is replaced."""
    tasks = [asyncio.create_task(each) for each in work]
    end = asyncio.create_task(ending.wait())
    try:
        done, _ = await asyncio.wait([end, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for each in tasks:
            each.cancel()


@contextlib.contextmanager
def _ending(context: C) -> Iterator[C]:
    """Yield a context, and close all its sockets in the end; sent answers are delivered for a moment longer."""
    try:
        yield context
    finally:
        context.destroy(linger=LINGER)


if __name__ == "__main__":
    sys.exit(main())
