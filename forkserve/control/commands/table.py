"""The function behind each verb. `verbs` has their declarations; each is one typed function over the master.

A verb takes validated parameters and returns its answer, a Completion for work that takes time, a stream, or Steps,
which are taken a few at a time, so that a request about hundreds of processes delays no event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forkserve.control.commands import changing, optionviews, outputs, pausing, reading, running, top
from forkserve.control.commands.context import Context

__all__ = ["COMMANDS"]

COMMANDS: Mapping[str, Callable[[Context, Any], Any]] = {
    "version": reading.version,
    "list": reading.list_,
    "numwatchers": reading.numwatchers,
    "numprocesses": reading.numprocesses,
    "status": reading.status,
    "stats": reading.stats,
    "dstats": reading.dstats,
    "top": top.top,
    "listsockets": reading.listsockets,
    "options": optionviews.options,
    "get": optionviews.get,
    "globaloptions": optionviews.globaloptions,
    "stacks": reading.stacks,
    "events": reading.events,
    "logs": outputs.logs,
    "run": running.run,
    "start": running.start,
    "stop": running.stop,
    "restart": running.restart,
    "reload": running.reload,
    "rollback": running.rollback,
    "drain": running.drain,
    "undrain": running.undrain,
    "pause": pausing.pause,
    "resume": pausing.resume,
    "maintenance": pausing.maintenance,
    "reloadconfig": running.reloadconfig,
    "incr": running.incr,
    "decr": running.decr,
    "set": changing.set_,
    "add": changing.add,
    "rm": changing.rm,
    "addsocket": changing.addsocket,
    "setsocket": changing.setsocket,
    "rmsocket": changing.rmsocket,
    "signal": running.signal,
    "kill": running.kill,
    "reopenlogs": running.reopenlogs,
    "upgrade": running.upgrade,
    "quit": running.quit,
}
"""By the name of the verb; every verb has one."""
