"""The lifespan of an ASGI application: notified once that serving begins, and once that it has ended.

`auto` tries, and takes an exception for an application without a lifespan (ASGI 3, lifespan), with a warning if it
had taken the message; `on` takes that for an error; `off` does not try. The state that the application fills is copied
into every scope.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from forkserve.config.serving import LifespanMode
from forkserve.errors import ApplicationError

__all__ = ["Lifespan"]

log = logging.getLogger("forkserve.asgi")

ENDING = 0.5
"""Seconds that an application has to return after its last answer, or after it was cancelled."""
Message = dict[str, Any]
Application = Callable[..., Awaitable[None]]


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
        self._taken = False

    async def start(self) -> None:
        """Send `lifespan.startup` and wait; raises ApplicationError if the application fails to start."""
        if self._mode is LifespanMode.OFF:
            return
        loop = asyncio.get_running_loop()
        self._started, self._stopped = loop.create_future(), loop.create_future()
        self._task = loop.create_task(self._run(), name="lifespan")
        self._inbox.put_nowait({"type": "lifespan.startup"})
        failure = await self._started
        if failure is not None:
            raise ApplicationError(f"the application's lifespan failed to start: {failure}")

    async def stop(self, deadline: float = float("inf")) -> bool:
        """Send `lifespan.shutdown` and wait until the application is done; failures are only logged, since it is too
        late.

        Returns False if it was not done at `deadline`, an instant of the monotonic clock; then it is cancelled.
        """
        if self._task is None or self._stopped is None or self._task.done():
            return True
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        rest = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        done, _ = await asyncio.wait({self._stopped}, timeout=rest)
        if done and self._stopped.result() is not None:
            log.error("the application's lifespan failed to shut down: %s", self._stopped.result())
        if not done:
            log.error("the application's lifespan.shutdown takes longer than the graceful timeout; it is cancelled")
            self._stopped.cancel()
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=ENDING)
        return bool(done)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        error: BaseException | None = None
        try:
            await self._app(scope, self._receive, self._send)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever the application raises here is an answer
            error = raised
        self._ended(error)

    async def _receive(self) -> Message:
        message = await self._inbox.get()
        self._taken = True
        return message

    def _ended(self, error: BaseException | None) -> None:
        assert self._started is not None
        assert self._stopped is not None
        if not self._started.done():
            self._started.set_result(self._verdict(error))
        elif error is not None and not self._stopped.done():
            log.error("the application's lifespan raised", exc_info=error)
        if not self._stopped.done():
            self._stopped.set_result(None)

    def _verdict(self, error: BaseException | None) -> str | None:
        """Return what is wrong with an application whose lifespan ended without an answer; None to serve it."""
        if isinstance(error, SystemExit) or (error is not None and self._mode is LifespanMode.ON):
            log.error("lifespan", exc_info=error)
            return f"{type(error).__name__}: {error}"
        if error is not None and self._taken:
            log.warning(
                "the application raised in its lifespan's startup; served without, unless by --lifespan on",
                exc_info=error,
            )
        else:
            log.debug("the application has no lifespan")
        return None

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
