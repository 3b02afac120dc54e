"""Where every thread, task and greenlet of this process is: for the log of a process that must be ended, and for a
person who asks (`forkservectl stacks`).

Rules: what waits is found by the collector's list of objects, so no lock and no part of a loop that may hang is needed.
"""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from forkserve.serving.engine.native import get_ident
from forkserve.serving.failure import awaited_frames

__all__ = ["all_stacks", "unfinished_threads"]

MOST = 100
"""Most greenlets and tasks that are listed, of each kind."""


def all_stacks(here: FrameType | None = None) -> str:
    """Return the stacks of all threads except the calling one, then of waiting greenlets and tasks. Any thread.

    The calling thread is listed with `here`, if given.
    """
    own = get_ident()
    names = {each.ident: each.name for each in _known_threads()}
    names.setdefault(threading.main_thread().ident, "MainThread")
    frames = {ident: frame for ident, frame in sys._current_frames().items() if ident != own}
    if here is not None:
        frames[own] = here
    threads = [_told(f"thread {names.get(ident, ident)}", frame) for ident, frame in frames.items()]
    return "\n".join([*threads, *_greenlets(), *_tasks()])


def unfinished_threads() -> list[str]:
    """Return the names of the threads for which the interpreter's end waits. Any thread."""
    return [each.name for each in _known_threads() if not each.daemon and each is not threading.main_thread()]


def _known_threads() -> list[threading.Thread]:
    # Not enumerate(), whose lock may be held by a thread that hangs, or be gevent's.
    return list(threading._active.values())  # type: ignore[attr-defined]


def _told(name: str, frame: FrameType) -> str:
    return f"{name}:\n{''.join(traceback.format_stack(frame)).rstrip() or '  (runs no Python)'}"


def _found(kind: type) -> Iterator[Any]:
    """Yield living objects of a kind, at most `MOST`."""
    found = 0
    for each in gc.get_objects():
        # type(each), since a proxy may say of itself what it likes, and run code of the application to do so
        if issubclass(type(each), kind):
            found += 1
            if found > MOST:
                return
            yield each


def _greenlets() -> Iterator[str]:
    module = sys.modules.get("greenlet")
    if module is None:
        return
    for each in _found(module.greenlet):
        frame = each.gr_frame
        if frame is not None:
            yield _told(f"greenlet {getattr(each, 'name', None) or type(each).__name__}", frame)


def _tasks() -> Iterator[str]:
    module = sys.modules.get("asyncio.tasks")
    if module is None:
        return
    for each in _found(module.Task):
        if not each.done():
            frames = traceback.StackSummary.extract(iter(awaited_frames(each.get_coro())))
            yield f"task {each.get_name()}:\n{''.join(traceback.format_list(frames)).rstrip()}"
