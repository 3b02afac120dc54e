"""How an asyncio server learns that draining has begun, and which loop it uses."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from importlib.util import find_spec

from forkserve.backends.base import Run
from forkserve.errors import BackendError

__all__ = ["drain_event", "loop_factory"]


def drain_event(run: Run) -> asyncio.Event:
    """Return an event of the running loop that is set when draining begins."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def begun() -> None:
        loop.remove_reader(run.drain_fd)
        event.set()

    loop.add_reader(run.drain_fd, begun)
    return event


def loop_factory(run: Run, *, auto: str = "uvloop") -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the loop for --loop; `auto` is the faster one, if available."""
    wanted = run.options.asgi.loop
    if wanted == "auto":
        wanted = "asyncio" if auto == "asyncio" or find_spec("uvloop") is None else auto
    there = find_spec("uvloop") is not None
    if wanted == "uvloop" and not there:
        raise BackendError("--loop uvloop: uvloop is not installed; try: pip install uvloop")
    if wanted == "asyncio" or not there:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory
