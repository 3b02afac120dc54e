"""Running a coroutine at once, as a task, without a turn of the loop before its first step.

Most requests end in their first step, so a turn of the loop for each would be most of their cost. Yet an application
may ask for the current task, a cancel scope or a timeout in its first line, so it is a real task from the start: with
a separate context, known to asyncio, and cancelled like any other.

Python 3.12 has eager tasks. Before that a new task passes its first step to `loop.call_soon`, and there it is caught
and run: the same C task, stepped by us instead of by the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

from forkserve.serving.asgi.context import Task

__all__ = ["eager_task_factory"]

Starter = Callable[[Coroutine[Any, Any, None]], Task]


def eager_task_factory(loop: asyncio.AbstractEventLoop) -> Starter:
    """Return a function that makes a task and runs its first step; call it from the loop, outside of any task."""
    if sys.version_info >= (3, 12):
        return partial(asyncio.Task, loop=loop, eager_start=True)
    return _catching(loop)


def _catching(loop: asyncio.AbstractEventLoop) -> Starter:
    caught: list[tuple[Callable[[], object], Context | None]] = []

    def catch(step: Callable[[], object], *, context: Context | None = None) -> None:
        caught.append((step, context))

    def start(coroutine: Coroutine[Any, Any, None]) -> Task:
        # An attribute of the instance comes before the method of the class, with asyncio's loops and with uvloop's.
        loop.call_soon = catch  # type: ignore[method-assign, assignment]
        try:
            task = asyncio.Task(coroutine, loop=loop, name="request")
        finally:
            del loop.call_soon
        step, context = caught.pop()
        if context is None:
            step()
        else:
            context.run(step)
        return task

    return start
