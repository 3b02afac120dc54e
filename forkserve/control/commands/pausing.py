"""The verbs that make clients wait, or give them a page, while the workers accept nothing."""

from __future__ import annotations

import os

from forkserve.control.commands.context import Context
from forkserve.control.schema.reports import Done
from forkserve.control.schema.requests import MaintenanceSwitch, PauseTarget, ResumeTarget
from forkserve.errors import ControlError
from forkserve.supervision.completion import Completion

__all__ = ["maintenance", "pause", "resume"]


def pause(context: Context, asked: PauseTarget) -> Done:
    return Done(True, context.master.pause(asked.watcher, seconds=asked.max, then=asked.then))


def resume(context: Context, asked: ResumeTarget) -> Completion:
    return context.master.maintenance.resume(asked.watcher)


def maintenance(context: Context, asked: MaintenanceSwitch) -> Completion:
    """Turn maintenance on or off; the responder reads the page, as the user of the watcher."""
    names = [] if asked.watcher is None else [asked.watcher]
    if asked.switch == "off":
        return context.master.maintenance.end(names)
    if asked.file is not None and not os.path.isabs(asked.file):
        raise ControlError(f"{asked.file}: expected an absolute path")
    return context.master.maintenance.begin(names, asked.file or "", asked.retry_after)
