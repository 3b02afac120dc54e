"""The lifespan of an ASGI application: told once that serving begins, and once that it has ended.

`auto` asks, and takes an application that raises at once for one that has no lifespan (ASGI 3, lifespan); `on` takes
that for an error; `off` does not ask. The state that the application fills is copied into every scope.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from forkserve.errors import ApplicationError

__all__ = ["Lifespan", "LifespanMode"]

log = logging.getLogger("forkserve.asgi")

Message = dict[str, Any]
Application = Callable[..., Awaitable[None]]


class LifespanMode(Enum):
    """Whether the application is asked."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Lifespan:
    """Runs the lifespan call of one application in the running loop. `state` is what its scopes share."""

    def __init__(self, app: Application, mode: LifespanMode) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[str | None] | None = None
        self._stopped: asyncio.Future[str | None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say `lifespan.startup` and wait; raises ApplicationError when the application fails to start."""
        if self._mode is LifespanMode.OFF:
            return
        loop = asyncio.get_running_loop()
        self._started, self._stopped = loop.create_future(), loop.create_future()
        self._task = loop.create_task(self._run(), name="lifespan")
        self._inbox.put_nowait({"type": "lifespan.startup"})
        failure = await self._started
        if failure is not None:
            raise ApplicationError(f"the application's lifespan failed to start: {failure}")

    async def stop(self) -> None:
        """Say `lifespan.shutdown` and wait until the application is done; failures are logged, for it is too late."""
        if self._task is None or self._stopped is None or self._task.done():
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        failure = await self._stopped
        if failure is not None:
            log.error("the application's lifespan failed to shut down: %s", failure)
        await asyncio.wait({self._task}, timeout=1.0)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        error: BaseException | None = None
        try:
            await self._app(scope, self._inbox.get, self._send)
        except Exception as raised:  # noqa: BLE001 - whatever the application raises here is an answer
            error = raised
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        assert self._started is not None
        assert self._stopped is not None
        if not self._started.done():
            if error is not None and self._mode is LifespanMode.ON:
                log.error("lifespan", exc_info=error)
                self._started.set_result(f"{type(error).__name__}: {error}")
            else:
                log.debug("the application has no lifespan")
                self._started.set_result(None)
        elif error is not None and not self._stopped.done():
            log.error("the application's lifespan raised", exc_info=error)
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def _send(self, message: Message) -> None:
        assert self._started is not None
        assert self._stopped is not None
        kind = message["type"]
        future = self._started if kind.startswith("lifespan.startup.") else self._stopped
        if kind not in _ANSWERS or future.done():
            raise RuntimeError(f"lifespan: {kind!r} is not expected now")
        future.set_result(message.get("message", "") or "no reason given" if kind.endswith(".failed") else None)


_ANSWERS = frozenset(
    {
        "lifespan.startup.complete",
        "lifespan.startup.failed",
        "lifespan.shutdown.complete",
        "lifespan.shutdown.failed",
    }
)
