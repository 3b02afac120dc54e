"""Where every thread and every greenlet of this process is, for the log of a process that has to be given up."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

from forkserve.serving.engine.native import get_ident

__all__ = ["all_stacks"]

GREENLETS = 100
"""Greenlets that are told at most."""


def all_stacks() -> str:
    """Return the stacks of all threads but the calling one, then of greenlets that are switched out. Any thread."""
    own = get_ident()
    names = {each.ident: each.name for each in list(threading._active.values())}  # type: ignore[attr-defined]
    names.setdefault(threading.main_thread().ident, "MainThread")
    threads = [
        _told(f"thread {names.get(ident, ident)}", frame)
        for ident, frame in sys._current_frames().items()
        if ident != own
    ]
    return "\n".join([*threads, *(_told(f"greenlet {name}", frame) for name, frame in _greenlets())])


def _told(name: str, frame: FrameType) -> str:
    return f"{name}:\n{''.join(traceback.format_stack(frame)).rstrip()}"


def _greenlets() -> Iterator[tuple[str, FrameType]]:
    module = sys.modules.get("greenlet")
    if module is None:
        return
    left = GREENLETS
    for each in gc.get_objects():
        if isinstance(each, module.greenlet) and left:
            frame = each.gr_frame
            if frame is not None:
                left -= 1
                yield getattr(each, "name", None) or type(each).__name__, frame
