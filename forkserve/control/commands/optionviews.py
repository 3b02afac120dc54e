"""The verbs that show options: those of a watcher, and those of the master, as JSON values."""

from __future__ import annotations

from dataclasses import asdict, fields
from enum import Enum
from typing import Any

from forkserve.config.model import MasterOptions, WatcherOptions
from forkserve.config.options import options_of
from forkserve.control.commands.context import Context
from forkserve.control.schema.requests import Asking, OneOption, OneWatcher
from forkserve.errors import UnknownNameError
from forkserve.suggest import nearest

__all__ = ["get", "globaloptions", "options"]


def options(context: Context, asked: OneWatcher) -> dict[str, Any]:
    """Return every option by name; tables (`env`, `rlimits`, streams, hooks) as objects, free keys among the others."""
    watcher = context.master.supervisor.queue(asked.watcher).watcher
    return _of_watcher(watcher.options, watcher.target)


def get(context: Context, asked: Asking) -> dict[str, Any]:
    known = options(context, OneWatcher(asked.watcher))
    for key in asked.keys:
        if key not in known:
            raise UnknownNameError(f"{key!r} option not found{nearest(key, known)}", "no-such-option")
    return {key: known[key] for key in asked.keys}


def globaloptions(context: Context, asked: OneOption) -> dict[str, Any]:
    master = context.master.supervisor.config.master
    known = {each.name: _plain(getattr(master, each.name)) for each in options_of(MasterOptions)}
    if asked.option is None:
        return known
    if asked.option not in known:
        text = f"{asked.option!r} not an existing option{nearest(asked.option, known)}"
        raise UnknownNameError(text, "no-such-option")
    return {asked.option: known[asked.option]}


def _of_watcher(watcher: WatcherOptions, target: int) -> dict[str, Any]:
    found = {each.name: _plain(getattr(watcher, each.name)) for each in fields(watcher) if each.name != "extra"}
    found |= {"numprocesses": target, **watcher.extra}
    for stream in ("stdout_stream", "stderr_stream"):
        value = getattr(watcher, stream)
        found[stream] = None if value is None else {name: _plain(each) for name, each in asdict(value).items()}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
