"""The lifespan of applications that have one, have none, and fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forkserve.config.serving import LifespanMode
from forkserve.errors import ApplicationError
from forkserve.serving.asgi.lifespan import Lifespan

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def starts_and_stops(scope: Message, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["ready"] = True
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    scope["state"]["ready"] = False
    await send({"type": "lifespan.shutdown.complete"})


async def has_none(scope: Message, receive: Receive, send: Send) -> None:
    raise KeyError(scope["type"])


async def refuses_to_start(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def is_cancelled(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    raise asyncio.CancelledError


async def raises_when_asked(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    raise KeyError("the secret")


async def leaves(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    raise SystemExit("no database")


def run(app: Callable[[Message, Receive, Send], Awaitable[None]], mode: LifespanMode) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        lifespan = Lifespan(app, mode)
        await lifespan.start()
        seen = dict(lifespan.state)
        await lifespan.stop()
        return {"started": seen, "stopped": lifespan.state}

    return asyncio.run(main())


def test_startup_fills_the_state_and_shutdown_is_waited_for() -> None:
    assert run(starts_and_stops, LifespanMode.AUTO) == {"started": {"ready": True}, "stopped": {"ready": False}}


def test_an_application_without_lifespan_is_served_all_the_same() -> None:
    assert run(has_none, LifespanMode.AUTO) == {"started": {}, "stopped": {}}


def test_a_missing_lifespan_is_an_error_when_it_was_demanded() -> None:
    with pytest.raises(ApplicationError, match="KeyError"):
        run(has_none, LifespanMode.ON)


@pytest.mark.parametrize("mode", [LifespanMode.AUTO, LifespanMode.ON])
def test_a_startup_that_failed_ends_the_start(mode: LifespanMode) -> None:
    with pytest.raises(ApplicationError, match="no database"):
        run(refuses_to_start, mode)


def test_off_never_calls_the_application() -> None:
    assert run(refuses_to_start, LifespanMode.OFF) == {"started": {}, "stopped": {}}


@pytest.mark.parametrize("app", [is_cancelled, raises_when_asked])
def test_an_application_that_raises_in_startup_is_told_and_served_unless_a_lifespan_was_demanded(
    app: Callable[[Message, Receive, Send], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(app, LifespanMode.AUTO) == {"started": {}, "stopped": {}}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is not None
    with pytest.raises(ApplicationError, match=r"CancelledError|the secret"):
        run(app, LifespanMode.ON)


def test_an_application_without_lifespan_leaves_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    run(has_none, LifespanMode.AUTO)
    assert not caplog.records


def test_an_application_that_leaves_in_startup_does_not_start() -> None:
    with pytest.raises(ApplicationError, match="SystemExit: no database"):
        run(leaves, LifespanMode.AUTO)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_shutdown_is_cancelled_at_its_deadline(stubborn: bool, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")
            if stubborn:
                await send({"type": "lifespan.shutdown.complete"})

    async def main() -> bool:
        lifespan = Lifespan(slow, LifespanMode.AUTO)
        await lifespan.start()
        return await lifespan.stop(time.monotonic() + 0.05)

    assert asyncio.run(main()) is False
    assert ended == ["cleaned up"]
    (record,) = caplog.records
    assert "takes longer than the graceful timeout" in record.message
