"""A change of the configuration in progress as plain data, and back.

Rules: as for `watchers`. A reading in progress is not serialised, since it changes nothing: another helper reads again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from forkserve.config.editing import (
    AddSocket,
    AddWatcher,
    ConfigEdit,
    RemoveSocket,
    RemoveWatcher,
    SetSocket,
    SetWatcher,
)
from forkserve.config.model import SocketOptions
from forkserve.socketpool import SocketChange
from forkserve.supervision.completion import Completion
from forkserve.supervision.reload.change import ChangePhase, ChangeProgress, ConfigChange, Stand, Undo
from forkserve.supervision.reload.reloader import Reloader
from forkserve.supervision.reload.requests import ChangeRequest
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.state.sockets import retirement_from_data, retirement_to_data
from forkserve.supervision.state.watchers import (
    command_from_data,
    command_to_data,
    config_from_data,
    config_to_data,
    plain,
)

__all__ = ["reloader_from_data", "reloader_to_data"]

Data = Mapping[str, Any]

_EDITS: Mapping[str, type[ConfigEdit]] = {
    each.__name__: each for each in (AddSocket, AddWatcher, RemoveSocket, RemoveWatcher, SetSocket, SetWatcher)
}


def reloader_to_data(reloader: Reloader, completions: CompletionWriter) -> Data:
    """Return the change in progress, the requests that wait, and the queues that are being emptied."""
    progress = reloader.progress
    return {
        "progress": {
            "phase": progress.phase.value,
            "asked": _from_request(progress.asked, completions),
            "change": None if progress.change is None else _from_change(progress.change),
            "commands": {name: command_to_data(each) for name, each in progress.commands.items()},
            "tickets": {name: completions.number(each) for name, each in progress.tickets.items()},
            "leftovers": {name: completions.number(each) for name, each in progress.leftovers.items()},
            "why": progress.why,
            "insisted": progress.insisted,
        },
        "waiting": [_from_request(each, completions) for each in reloader.waiting],
        "retirement": retirement_to_data(reloader.retirement),
    }


def reloader_from_data(
    data: Data, reloader: Reloader, completions: CompletionReader, *, inherited: Mapping[str, str]
) -> None:
    """Give a new reloader the state of another one; `Reloader.go_on` resumes it."""
    progress = data["progress"]
    reloader.progress = ChangeProgress(
        ChangePhase(progress["phase"]),
        _to_request(progress["asked"], completions),
        None if progress["change"] is None else _to_change(progress["change"], inherited),
        {name: command_from_data(each, inherited) for name, each in progress["commands"].items()},
        _numbered(progress["tickets"], completions),
        _numbered(progress["leftovers"], completions),
        progress["why"],
        progress["insisted"],
    )
    reloader.waiting.go_on([_to_request(each, completions) for each in data["waiting"]])
    retirement_from_data(data["retirement"], reloader.retirement)


def _from_request(asked: ChangeRequest, completions: CompletionWriter) -> Data:
    edit = asked.edit
    return {
        **plain(replace(asked, edit=None, completions=[])),
        "edit": None if edit is None else {"kind": type(edit).__name__, "fields": plain(edit)},
        "completions": [completions.number(each) for each in asked.completions],
    }


def _to_request(data: Data, completions: CompletionReader) -> ChangeRequest:
    edit = data["edit"]
    fields = {**data, "edit": None if edit is None else msgspec.convert(edit["fields"], _EDITS[edit["kind"]])}
    return ChangeRequest(**{**fields, "completions": [completions[number] for number in data["completions"]]})


def _numbered(data: Mapping[str, int], completions: CompletionReader) -> dict[str, Completion]:
    return {name: completions[number] for name, number in data.items()}


def _from_change(change: ConfigChange) -> Data:
    return {
        "old": config_to_data(change.old),
        "new": config_to_data(change.new),
        "sockets": _from_sockets(change.sockets),
        "undo": [_from_undo(each) for each in change.undo],
        "added": list(change.added),
        "leaving": list(change.leaving),
        "stood": {name: plain(each) for name, each in change.stood.items()},
    }


def _from_undo(undo: Undo) -> Data:
    return dict(plain(replace(undo, command=replace(undo.command, inherited={}))))


def _to_change(data: Data, inherited: Mapping[str, str]) -> ConfigChange:
    return ConfigChange(
        old=config_from_data(data["old"]),
        new=config_from_data(data["new"]),
        sockets=_to_sockets(data["sockets"]),
        undo=tuple(Undo(**{**each, "command": command_from_data(each["command"], inherited)}) for each in data["undo"]),
        added=tuple(data["added"]),
        leaving=tuple(data["leaving"]),
        stood={name: msgspec.convert(each, Stand) for name, each in data["stood"].items()},
    )


def _from_sockets(change: SocketChange) -> Data:
    return {
        "before": dict(change.before),
        "after": dict(change.after),
        "opened": sorted(change.opened),
        "options_before": {str(number): plain(each) for number, each in change.options_before.items()},
        "options_after": {str(number): plain(each) for number, each in change.options_after.items()},
    }


def _to_sockets(data: Data) -> SocketChange:
    return SocketChange(
        before=dict(data["before"]),
        after=dict(data["after"]),
        opened=frozenset(data["opened"]),
        options_before=_to_options(data["options_before"]),
        options_after=_to_options(data["options_after"]),
    )


def _to_options(data: Data) -> dict[int, SocketOptions]:
    return {int(number): msgspec.convert(each, SocketOptions) for number, each in data.items()}
