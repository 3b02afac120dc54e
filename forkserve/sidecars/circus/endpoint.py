"""The control endpoint: a ROUTER socket for any number of independent clients.

Theory of operation. Requests of one client are handled in their order; those that wait for work are answered when it is
done, beside the client's next requests. The number of pending requests of a client is limited, and so is the size of a
message, so that garbage, a flood or a client that never reads its answers affects only itself. The socket drops an
answer for a client that has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import zmq
import zmq.asyncio

from forkserve.sidecars.circus.protocol import (
    CircusRequest,
    Envelope,
    Errno,
    MessageRefused,
    encoded,
    failure,
    id_of,
    open_envelope,
    parse,
)

__all__ = ["CircusEndpoint", "Dispatch"]

log = logging.getLogger("forkserve.circus")

MOST_UNANSWERED = 200
"""Most pending requests of one client."""
MOST_IN_ALL = 5000

Dispatch = Callable[[CircusRequest], Awaitable[Mapping[str, Any]]]
"""Carries out a request and returns the fields of its answer; raises MessageRefused."""


@dataclass(slots=True)
class _Client:
    """The pending requests of one client."""

    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    unanswered: int = 0


class CircusEndpoint:
    """Serves requests on a bound ROUTER socket."""

    def __init__(self, router: zmq.asyncio.Socket, dispatch: Dispatch) -> None:
        self._router = router
        self._dispatch = dispatch
        self._clients: dict[bytes, _Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Take requests until cancelled."""
        while True:
            frames = await self._router.recv_multipart()
            opened = open_envelope(frames)
            if opened is None:
                log.debug("%d frames that are no request", len(frames))
                continue
            envelope, message = opened
            client = self._clients.setdefault(envelope.client, _Client())
            if client.unanswered >= MOST_UNANSWERED or len(self._tasks) >= MOST_IN_ALL:
                busy = MessageRefused("too many requests at once", Errno.COMMAND_ERROR)
                await self._send(envelope, failure(busy, time.time()), id_of(message))
                continue
            client.unanswered += 1
            task = asyncio.create_task(self._handle(client, envelope, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout: float) -> None:
        """Give pending requests a moment to be answered."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def _handle(self, client: _Client, envelope: Envelope, message: bytes) -> None:
        try:
            request = parse(message.strip())
        except MessageRefused as error:
            await self._send(envelope, failure(error, time.time()), id_of(message))
        else:
            begun = asyncio.Event()
            async with client.order:
                answering = asyncio.create_task(self._answer(replace(request, on_begun=begun.set)))
                answering.add_done_callback(lambda _task: begun.set())
                await (begun.wait() if request.waiting else answering)
            answer = await answering
            if not request.cast:
                await self._send(envelope, answer, request.id)
        finally:
            client.unanswered -= 1
            if not client.unanswered:
                self._clients.pop(envelope.client, None)

    async def _answer(self, request: CircusRequest) -> Mapping[str, Any]:
        try:
            return {"status": "ok", "time": time.time(), **await self._dispatch(request)}
        except MessageRefused as error:
            return failure(error, time.time())
        except Exception:
            log.exception("a bug in forkserve, please report it: command %r", request.command)
            return failure(MessageRefused("server error", Errno.BAD_MSG_DATA_ERROR), time.time())

    async def _send(self, envelope: Envelope, answer: Mapping[str, Any], id: Any) -> None:
        with contextlib.suppress(zmq.ZMQError):  # the client does not read, or has gone
            await self._router.send_multipart([*envelope.frames, encoded(answer, id)], zmq.DONTWAIT)
