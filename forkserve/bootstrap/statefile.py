"""All of a master as one document, and a master that goes on from it.

The document is JSON. Each part serialises itself (`to_data`) and restores itself; this module lists them, and the order
in which they are restored. `VERSION` counts changes that older code would misread; a field with a default where it is
read is not such a change.

Rules: reading changes nothing outside of this process, so that it can be tried, and abandoned for the old code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from forkserve.bootstrap.assembly import Assembly, Base, assemble, mark, new_bus, new_loop, program
from forkserve.bootstrap.logprogram import LogProgram
from forkserve.config.document import Section
from forkserve.config.load import ConfigSource, FileSource, LineSource
from forkserve.config.model import Config
from forkserve.control.server import ControlServer
from forkserve.errors import ForkserveError
from forkserve.supervision.auxiliaries.auxiliaries import AuxiliaryProcesses
from forkserve.supervision.auxiliaries.sidecar import Sidecar
from forkserve.supervision.completion import Completion
from forkserve.supervision.os.daemon import Detached
from forkserve.supervision.os.pidfile import PidFile
from forkserve.supervision.os.signals import SignalQueue
from forkserve.supervision.state.change import reloader_from_data, reloader_to_data
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.state.sockets import pool_from_data, pool_to_data
from forkserve.supervision.state.watchers import from_data, to_data
from forkserve.unix.fds import given_limits, restore_given_limits
from forkserve.unix.notifyfolder import NotifyFolder

__all__ = ["VERSION", "StateError", "decode", "encode", "read", "written"]

VERSION = 1

Data = dict[str, Any]


class StateError(ForkserveError):
    """A state that this program cannot read."""


def encode(data: Data) -> bytes:
    """Return a document as bytes."""
    return msgspec.json.encode(data)


def decode(data: bytes) -> Data:
    """Return the document; raises StateError if it is invalid, or of another version."""
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"the state of the running master cannot be read: {error}") from None
    if found.get("version") != VERSION:
        raise StateError(
            f"the state of the running master is version {found.get('version')}, {program()} reads version {VERSION}: "
            "stop it and start this one"
        )
    return found


def written(assembly: Assembly, upgrade: Completion | None = None) -> Data:
    """Return the document; `upgrade` is the promise that new code must keep."""
    completions, base, master = CompletionWriter(), assembly.base, assembly.master
    data: Data = {
        "version": VERSION,
        "program": program(),
        "command": list(base.command),
        "source": _from_source(base.source),
        "limits": given_limits(),
        "pidfile": None if base.pidfile is None else base.pidfile.path,
        "background": None if base.background is None else base.background.to_data(),
        "notify": base.reports.to_data(),
        "companions": base.auxiliaries.to_data(),
        "sockets": pool_to_data(base.pool),
        "supervisor": to_data(master.supervisor, completions),
        "reload": reloader_to_data(master.reloader, completions),
        "master": master.to_data(completions),
        "events": assembly.history.to_data(),
        "status": assembly.status.to_data(completions),
        "adopted": assembly.adopted.to_data(),
        "sidecars": [each.to_data() for each in assembly.sidecars],
        "log_program": None if assembly.log_program is None else assembly.log_program.to_data(),
        "control": None if assembly.control is None else assembly.control.to_data(completions),
        "upgrade": None if upgrade is None else completions.number(upgrade),
    }
    return {**data, "completions": completions.data}


def read(data: Data, signals: SignalQueue) -> tuple[Assembly, Completion]:
    """Return a master that goes on from a document, and the promise of its upgrade; raises StateError."""
    try:
        return _read(data, signals)
    except (LookupError, TypeError, ValueError, AttributeError, msgspec.ValidationError) as error:
        raise StateError(f"the state of the running master cannot be read: {type(error).__name__}: {error}") from error


def _read(data: Data, signals: SignalQueue) -> tuple[Assembly, Completion]:
    completions = CompletionReader(data["completions"])
    base = _base(data, signals)
    restore_given_limits(data["limits"])
    assembly = assemble(Config(), base)
    supervisor, master = assembly.master.supervisor, assembly.master
    from_data(data["supervisor"], supervisor, completions, assembly.services)
    master.restore(data["master"], completions)
    assembly.history.restore(data["events"])
    reloader_from_data(data["reload"], master.reloader, completions, inherited=supervisor.inherited)
    assembly.status.restore(data["status"], completions)
    base.bus.subscribe(assembly.status.on_event)
    assembly.adopted.restore(data.get("adopted", {}))
    for each in data["sidecars"]:
        assembly.sidecars.append(Sidecar.from_data(each, base.loop, base.bus.emit))
        base.auxiliaries.look_after(assembly.sidecars[-1])
    if data.get("log_program") is not None:
        assembly.log_program = LogProgram.from_data(data["log_program"], base.loop, base.bus.emit, base.auxiliaries)
    if data["control"] is not None:
        assembly.control = ControlServer.from_data(data["control"], base.loop, assembly.routes, completions)
    return assembly, Completion() if data["upgrade"] is None else completions[data["upgrade"]]


def _base(data: Data, signals: SignalQueue) -> Base:
    loop, bus, reports = new_loop(), new_bus(), NotifyFolder.from_data(data["notify"])
    return Base(
        source=_to_source(data["source"]),
        signals=signals,
        pool=pool_from_data(data["sockets"]),
        bus=bus,
        loop=loop,
        reports=reports,
        auxiliaries=AuxiliaryProcesses(loop, bus.emit, mark=mark(reports), data=data["companions"]),
        background=None if data["background"] is None else Detached.from_data(data["background"]),
        pidfile=None if data["pidfile"] is None else PidFile.of_this_process(data["pidfile"]),
        command=tuple(data["command"]),
    )


def _from_source(source: ConfigSource) -> Data:
    if isinstance(source, FileSource):
        overrides = msgspec.to_builtins(source.overrides)
        return {"path": source.path, "sections": overrides, "env": dict(source.env), "shown": source.shown}
    assert isinstance(source, LineSource)
    return {"path": None, "sections": msgspec.to_builtins(source.sections), "env": dict(source.env), "shown": None}


def _to_source(data: Mapping[str, Any]) -> ConfigSource:
    sections = msgspec.convert(data["sections"], tuple[Section, ...])
    if data["path"] is None:
        return LineSource(sections, env=data["env"])
    return FileSource(data["path"], sections, data["env"], data["shown"])
