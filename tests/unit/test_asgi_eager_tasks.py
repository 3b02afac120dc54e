"""A coroutine is stepped at once and is a task all the same."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import pytest
import uvloop

from forkserve.serving.asgi.eager_tasks import eager_task_factory
from forkserve.serving.asgi.notifier import Notifier

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def run_in(factory: Callable[[], asyncio.AbstractEventLoop], act: Callable[[asyncio.AbstractEventLoop], None]) -> None:
    """Call `act` as a callback of a running loop, outside of any task; what it raises is raised here."""
    loop = factory()
    outcome = loop.create_future()

    def call() -> None:
        try:
            act(loop)
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            outcome.set_exception(error)
        else:
            loop.call_later(0.01, outcome.set_result, None)

    try:
        loop.call_soon(call)
        loop.run_until_complete(outcome)
    finally:
        loop.close()


@pytest.mark.parametrize("factory", LOOPS)
def test_the_first_step_runs_at_once_as_a_task_in_its_own_context(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    seen: list[object] = []

    async def work() -> None:
        seen.append((asyncio.current_task(), variable.get()))
        variable.set("mine")
        await asyncio.sleep(0)
        seen.append((asyncio.current_task(), variable.get()))

    def act(loop: asyncio.AbstractEventLoop) -> None:
        start = eager_task_factory(loop)
        first = start(work())
        second = start(work())
        assert seen == [(first, "unset"), (second, "unset")]
        assert asyncio.current_task(loop) is None
        assert {first, second} <= asyncio.all_tasks(loop)
        loop.call_soon(lambda: None)

    run_in(factory, act)
    assert [value for _, value in seen[2:]] == ["mine", "mine"]  # type: ignore[misc]


@pytest.mark.parametrize("factory", LOOPS)
def test_what_never_waits_is_done_when_the_call_returns(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work() -> None:
        return None

    def act(loop: asyncio.AbstractEventLoop) -> None:
        assert eager_task_factory(loop)(work()).done()

    run_in(factory, act)


@pytest.mark.parametrize("factory", LOOPS)
def test_a_notifier_wakes_all_that_wait_and_survives_one_who_gives_up(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    woken: list[str] = []

    def act(loop: asyncio.AbstractEventLoop) -> None:
        notifier, start = Notifier(loop), eager_task_factory(loop)

        async def wait(name: str) -> None:
            await notifier.wait()
            woken.append(name)

        start(wait("one"))
        start(wait("two")).cancel()
        start(wait("three"))
        notifier.notify()

    run_in(factory, act)
    assert woken == ["one", "three"]
