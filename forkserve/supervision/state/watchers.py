"""The state of supervision as plain data, and back: what a newer master in the same process goes on with.

Theory of operation. Everything that decides what happens next is data: slots, processes and their deadlines, groups
left behind, templates, jobs. `to_data` returns it as dictionaries, lists, texts and numbers. Instants are those of the
monotonic clock, which exec(2) does not affect; descriptors are marked as such (`unix.descriptors`), and a promise is
its number (`completions`). `from_data` builds a supervisor that goes on from there: it listens to the same descriptors
and arms the same deadlines. Sockets and a change of the configuration are serialised beside it (`sockets`, `change`);
companions and the master serialise themselves, by methods of the same names.

What can be recreated is not serialised: views, the environment, a helper that reads or tries something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from forkserve.config.model import Config
from forkserve.supervision.figures import WatcherFigures
from forkserve.supervision.generations.canary import Trial
from forkserve.supervision.generations.rehearsal import Rehearsal
from forkserve.supervision.generations.templates import Templates
from forkserve.supervision.hooks.gate import GatePhase
from forkserve.supervision.jobqueue.queue import JobQueue, Underway
from forkserve.supervision.jobs.advance import Job, Kill, Reload, Resize, Restart, RunOnce, SlotJob, Start, Stop
from forkserve.supervision.process import OrphanedGroup, Process
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.slot import Outlook, Slot
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.fdstore import FdStore, StoredFd
from forkserve.supervision.spawning.start import Resources, SpawnServices
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.timers.runs import TimerState
from forkserve.supervision.watcher import Watcher
from forkserve.supervision.zygotes.state import ZygoteState
from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.scoreboard import Scoreboard

__all__ = [
    "VERSION",
    "command_from_data",
    "command_to_data",
    "config_from_data",
    "config_to_data",
    "from_data",
    "plain",
    "to_data",
]

VERSION = 2
"""The version of what `to_data` returns; `from_data` refuses any other.

A field may be added without a new version if it has a default where it is read.
"""

Data = dict[str, Any]

_JOBS: Mapping[str, type[Job]] = {
    job.name: job for job in (Start, Stop, Restart, Reload, Resize, Kill, RunOnce, SlotJob)
}

_WISHES = (
    "up",
    "target",
    "drain_until",
    "hold_until",
    "hold_then",
    "maintained",
    "transient",
    "awaits_start",
    "paused",
    "resumes",
    "leaving",
    "broken",
    "awake",
    "vetoed",
)
"""Attributes of a watcher."""

_STARTS = ("not_before", "warm_at")
"""Attributes of its slot filler."""

_DESCRIPTORS = ("report", "notify", "promotion")
"""Attributes of a process that are descriptors."""

_COUNTERS = ("restarts", "held")
"""Attributes of its population."""

_FAILURES = {"failures": "count", "last_failure": "last"}
"""Attributes of the failures of its population, by their keys here."""


def to_data(supervisor: Supervisor, completions: CompletionWriter) -> Data:
    """Return the state of all watchers and their jobs."""
    return {
        "version": VERSION,
        "config": config_to_data(supervisor.config),
        "watchers": [_from_queue(queue, completions) for queue in supervisor],
        "stood": {name: list(each) for name, each in supervisor.dependencies.stood.items()},
    }


def from_data(data: Data, supervisor: Supervisor, completions: CompletionReader, services: SpawnServices) -> None:
    """Let a supervisor without watchers go on from `data`; raises ValueError for the data of another version."""
    if data["version"] != VERSION:
        raise ValueError(f"its state is version {data['version']}, and this is a program for version {VERSION}")
    inherited = supervisor.inherited
    supervisor.config = config_from_data(data["config"])
    for each in data["watchers"]:
        templates = _to_templates(each["templates"], inherited)
        queue = supervisor.add(templates.in_force)
        _fill_watcher(queue.watcher, each, templates, services)
        _fill_queue(queue, each["jobs"], completions)
        supervisor.changed(queue.watcher)
    stood = {name: (serving, complete) for name, (serving, complete) in data["stood"].items()}
    supervisor.dependencies.stood.update(stood)


def plain(value: object) -> Any:
    """Return a dataclass as JSON values."""
    return msgspec.to_builtins(value, str_keys=True)


def config_to_data(config: Config) -> Data:
    """Return a configuration, without the places where its values were given."""
    return dict(plain(replace(config, origins={}, labels={})))


def config_from_data(data: Data) -> Config:
    """Return the configuration again."""
    return msgspec.convert(data, Config)


def command_to_data(command: ProcessTemplate) -> Data:
    """Return a command, without the environment that the master was started with."""
    return dict(plain(replace(command, inherited={})))


def command_from_data(data: Data, inherited: Mapping[str, str]) -> ProcessTemplate:
    """Return a command again."""
    return replace(msgspec.convert(data, ProcessTemplate), inherited=inherited)


def _from_queue(queue: JobQueue, completions: CompletionWriter) -> Data:
    watcher, population = queue.watcher, queue.watcher.population
    return {
        **{name: getattr(watcher, name) for name in _WISHES},
        **{name: getattr(watcher.filler, name) for name in _STARTS},
        **{name: getattr(population, name) for name in _COUNTERS},
        **{key: getattr(population.failures, name) for key, name in _FAILURES.items()},
        "templates": _from_templates(watcher.templates),
        "slots": [_from_slot(slot) for slot in watcher.slots.values()],
        "processes": [_from_process(process) for process in watcher.processes],
        "gate": watcher.gate.to_data(),
        "made": watcher.processes.made,
        "zygotes": [_from_zygote(zygote) for zygote in population.zygotes.states],
        "groups": [plain(group) for group in watcher.processes.groups],
        "outlook": plain(population.failures.outlook),
        "store": _from_store(watcher.processes.store),
        "board": _from_board(watcher.processes.board),
        "figures": plain(watcher.processes.figures),
        "trial": plain(watcher.canary.trial),
        "rehearsal": _from_rehearsal(watcher.rehearser.current),
        "timer": plain(watcher.timer.state),
        "jobs": _from_jobs(queue, completions),
    }


def _from_process(process: Process) -> Data:
    fds = {name: descriptor(getattr(process, name)) for name in _DESCRIPTORS}
    return {**plain(process), **fds}


def _to_process(data: Data) -> Process:
    fds = {name: number_of(data[name]) for name in _DESCRIPTORS if name in data}
    return msgspec.convert({**data, **fds}, Process)


def _from_zygote(state: ZygoteState) -> Data:
    return {**plain(state), "channel": descriptor(state.channel)}


def _to_zygote(data: Data) -> ZygoteState:
    return msgspec.convert({**data, "channel": number_of(data["channel"])}, ZygoteState)


def _from_rehearsal(rehearsal: Rehearsal | None) -> Data | None:
    return None if rehearsal is None else {**plain(rehearsal), "report": descriptor(rehearsal.report)}


def _to_rehearsal(data: Data | None) -> Rehearsal | None:
    return None if data is None else msgspec.convert({**data, "report": number_of(data["report"])}, Rehearsal)


def _from_templates(templates: Templates) -> Data:
    return {
        **plain(replace(templates, by_generation={}, offers={})),
        "by_generation": {str(number): command_to_data(each) for number, each in templates.by_generation.items()},
        "offers": {str(number): command_to_data(each) for number, each in templates.offers.items()},
    }


def _to_templates(data: Data, inherited: Mapping[str, str]) -> Templates:
    templates = msgspec.convert({**data, "by_generation": {}, "offers": {}}, Templates, str_keys=True)
    templates.by_generation = {int(n): command_from_data(each, inherited) for n, each in data["by_generation"].items()}
    templates.offers = {int(n): command_from_data(each, inherited) for n, each in data["offers"].items()}
    return templates


def _from_slot(slot: Slot) -> Data:
    numbers = {
        "occupant": None if slot.occupant is None else slot.occupant.number,
        "candidate": None if slot.candidate is None else slot.candidate.number,
    }
    return {**plain(replace(slot, occupant=None, candidate=None)), **numbers}


def _to_slot(data: Data, processes: Processes) -> Slot:
    slot = msgspec.convert({**data, "occupant": None, "candidate": None}, Slot)
    slot.occupant = processes.by_number.get(data["occupant"])
    slot.candidate = processes.by_number.get(data["candidate"])
    return slot


def _from_store(store: FdStore) -> Data:
    return {str(wid): [[each.name, descriptor(each.fd)] for each in kept] for wid, kept in store.kept.items()}


def _to_store(data: Data) -> FdStore:
    kept = {int(wid): [(name, number_of(fd)) for name, fd in each] for wid, each in data.items()}
    return FdStore({wid: [StoredFd(name, fd) for name, fd in each if fd >= 0] for wid, each in kept.items()})


def _from_board(board: Scoreboard) -> Data:
    return {"fd": descriptor(board.fd), "bell": descriptor(board.bell), "taken": sorted(board.taken)}


def _to_board(data: Data) -> Scoreboard:
    return Scoreboard.restore(number_of(data["fd"]), number_of(data["bell"]), data["taken"])


def _from_jobs(queue: JobQueue, completions: CompletionWriter) -> Data:
    def written(each: Underway) -> Data:
        return {"name": each.job.name, "job": plain(each.job), "completion": completions.number(each.completion)}

    return {
        "current": None if queue.current is None else written(queue.current),
        "beside": [written(each) for each in queue.beside],
        "waiting": [written(each) for each in queue.waiting],
    }


def _fill_queue(queue: JobQueue, data: Data, completions: CompletionReader) -> None:
    def read(each: Data) -> Underway:
        return Underway(msgspec.convert(each["job"], _JOBS[each["name"]]), completions[each["completion"]])

    queue.current = None if data["current"] is None else read(data["current"])
    queue.beside = [read(each) for each in data["beside"]]
    queue.waiting.extend(read(each) for each in data["waiting"])


def _fill_watcher(watcher: Watcher, data: Data, templates: Templates, services: SpawnServices) -> None:
    for name in _WISHES:
        setattr(watcher, name, data.get(name, getattr(watcher, name)))
    watcher.awake = data.get("awake", watcher.up)
    watcher.gate.phase = GatePhase(data.get("gate", GatePhase.UP if watcher.up else GatePhase.DOWN))
    for name in _STARTS:
        setattr(watcher.filler, name, data[name])
    for name in _COUNTERS:
        setattr(watcher.population, name, data[name])
    for key, name in _FAILURES.items():
        setattr(watcher.population.failures, name, data[key])
    watcher.templates = watcher.population.templates = templates
    watcher.population.failures.outlook = msgspec.convert(data["outlook"], Outlook)
    processes = watcher.processes
    processes.made = data["made"]
    processes.board = _to_board(data["board"])
    processes.store = _to_store(data["store"])
    processes.figures = msgspec.convert(data["figures"], WatcherFigures, str_keys=True)
    for each in data["processes"]:
        process = _to_process(each)
        if process.is_probed and process.probe_at is None:  # the helper that asked it is another program's
            process.probe_at = services.loop.now()
        processes.keep(process, _resources_of(process, processes.board, services))
    processes.groups.left.extend(msgspec.convert(each, OrphanedGroup) for each in data["groups"])
    for each in data["slots"]:
        watcher.slots[each["wid"]] = _to_slot(each, processes)
    watcher.population.zygotes.restore([_to_zygote(each) for each in data["zygotes"]])
    watcher.canary.trial = msgspec.convert(data["trial"], Trial | None)
    watcher.rehearser.current = _to_rehearsal(data["rehearsal"])
    watcher.rehearser.watch()
    watcher.timer.state = msgspec.convert(data.get("timer", {}), TimerState)
    if watcher.gate.hooks:  # later, since reading changes nothing outside of this process
        services.loop.call_at(0.0, watcher.ask_again)


def _resources_of(process: Process, board: Scoreboard, services: SpawnServices) -> Resources:
    notify = None if process.notify < 0 else services.restore_notify(process.notify, process.notify_address)
    return Resources(None if process.record < 0 else board.place(process.record), notify)
