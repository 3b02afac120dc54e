"""The state of supervision as plain data, and back: what a newer master in the same process will go on with.

Theory of operation. Everything that decides what happens next is data: slots, processes and their deadlines, groups
left behind, templates, jobs. `to_data` writes it as dictionaries, lists, texts and numbers; instants are those of the
monotonic clock, which exec(2) does not touch, and descriptors are their numbers. `from_data` makes a supervisor of it
that goes on where the other stood: it listens to the same descriptors and arms the same deadlines.

What is not state is not written: the clients that wait for a job (their connections do not survive), pictures, and what
the configuration says about sockets, which is read before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from forkserve.config.model import Config
from forkserve.socketpool import SocketPool
from forkserve.supervision.command import ProcessTemplate
from forkserve.supervision.completion import Completion
from forkserve.supervision.fdstore import FdStore
from forkserve.supervision.figures import WatcherFigures
from forkserve.supervision.jobqueue import JobQueue, Underway
from forkserve.supervision.jobs import Job, Kill, Reload, Resize, Restart, Start, Stop
from forkserve.supervision.process import OrphanedGroup, Process
from forkserve.supervision.processes import Processes
from forkserve.supervision.rehearsal import Rehearsal
from forkserve.supervision.slot import Outlook, Slot
from forkserve.supervision.spawning import Resources, SpawnServices
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.templates import Templates
from forkserve.supervision.watcher import Watcher
from forkserve.supervision.zygotes import ZygoteState
from forkserve.unix.scoreboard import Scoreboard

__all__ = ["VERSION", "from_data", "to_data"]

VERSION = 1
"""Of what `to_data` writes; `from_data` refuses any other."""

Data = dict[str, Any]

_JOBS: Mapping[str, type[Job]] = {job.name: job for job in (Start, Stop, Restart, Reload, Resize, Kill)}

_WISHES = ("up", "target", "not_before", "warm_at", "drain_until", "awaits_start", "paused", "leaving", "broken")
"""Attributes of a watcher."""

_COUNTERS = ("restarts", "failures", "last_failure", "held")
"""Attributes of its population."""


def to_data(supervisor: Supervisor) -> Data:
    """Return the state of all watchers and their jobs."""
    return {"version": VERSION, "watchers": [_from_queue(queue) for queue in supervisor]}


def from_data(
    data: Data, config: Config, pool: SocketPool, services: SpawnServices, *, inherited: Mapping[str, str]
) -> Supervisor:
    """Return a supervisor that goes on from `data`; raises ValueError for the data of another version."""
    if data["version"] != VERSION:
        raise ValueError(f"state of version {data['version']}, this is a program for version {VERSION}")
    supervisor = Supervisor(replace(config, watchers=()), pool, services, inherited=inherited)
    supervisor.config = config
    for each in data["watchers"]:
        templates = _to_templates(each["templates"], inherited)
        queue = supervisor.add(templates.in_force)
        _fill_watcher(queue.watcher, each, templates, services)
        _fill_queue(queue, each["jobs"])
        supervisor.changed(queue.watcher)
    return supervisor


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value, str_keys=True)


def _from_queue(queue: JobQueue) -> Data:
    watcher, population = queue.watcher, queue.watcher.population
    return {
        **{name: getattr(watcher, name) for name in _WISHES},
        **{name: getattr(population, name) for name in _COUNTERS},
        "templates": _from_templates(watcher.templates),
        "slots": [_from_slot(slot) for slot in watcher.slots.values()],
        "processes": [_plain(process) for process in watcher.processes],
        "made": watcher.processes.made,
        "zygotes": [_plain(zygote) for zygote in population.zygotes.states],
        "groups": [_plain(group) for group in watcher.processes.groups],
        "outlook": _plain(population.outlook),
        "store": _plain(watcher.processes.store),
        "board": _from_board(watcher.processes.board),
        "figures": _plain(watcher.processes.figures),
        "rehearsal": _plain(watcher.rehearser.current),
        "jobs": _from_jobs(queue),
    }


def _from_templates(templates: Templates) -> Data:
    # the environment that the master was started with is the same for all
    return {
        **_plain(replace(templates, by_generation={}, offers={})),
        "by_generation": {str(n): _plain(replace(each, inherited={})) for n, each in templates.by_generation.items()},
        "offers": {str(n): _plain(replace(each, inherited={})) for n, each in templates.offers.items()},
    }


def _to_templates(data: Data, inherited: Mapping[str, str]) -> Templates:
    templates = msgspec.convert(data, Templates, str_keys=True)
    return replace(
        templates,
        by_generation={n: _with(each, inherited) for n, each in templates.by_generation.items()},
        offers={n: _with(each, inherited) for n, each in templates.offers.items()},
    )


def _with(command: ProcessTemplate, inherited: Mapping[str, str]) -> ProcessTemplate:
    return replace(command, inherited=inherited)


def _from_slot(slot: Slot) -> Data:
    numbers = {
        "occupant": None if slot.occupant is None else slot.occupant.number,
        "candidate": None if slot.candidate is None else slot.candidate.number,
    }
    return {**_plain(replace(slot, occupant=None, candidate=None)), **numbers}


def _to_slot(data: Data, processes: Processes) -> Slot:
    slot = msgspec.convert({**data, "occupant": None, "candidate": None}, Slot)
    slot.occupant = processes.by_number.get(data["occupant"])
    slot.candidate = processes.by_number.get(data["candidate"])
    return slot


def _from_board(board: Scoreboard) -> Data:
    return {"fd": board.fd, "bell": board.bell, "taken": sorted(board.taken)}


def _from_jobs(queue: JobQueue) -> Data:
    return {
        "current": None if queue.current is None else _from_job(queue.current.job),
        "beside": [_from_job(each.job) for each in queue.beside],
        "waiting": [_from_job(each.job) for each in queue.waiting],
    }


def _from_job(job: Job) -> Data:
    return {"name": job.name, **_plain(job)}


def _to_job(data: Data) -> Underway:
    fields = {name: value for name, value in data.items() if name != "name"}
    return Underway(msgspec.convert(fields, _JOBS[data["name"]]), Completion())


def _fill_queue(queue: JobQueue, data: Data) -> None:
    queue.current = None if data["current"] is None else _to_job(data["current"])
    queue.beside = [_to_job(each) for each in data["beside"]]
    queue.waiting.extend(_to_job(each) for each in data["waiting"])


def _fill_watcher(watcher: Watcher, data: Data, templates: Templates, services: SpawnServices) -> None:
    for name in _WISHES:
        setattr(watcher, name, data[name])
    for name in _COUNTERS:
        setattr(watcher.population, name, data[name])
    watcher.templates = watcher.population.templates = templates
    watcher.population.outlook = msgspec.convert(data["outlook"], Outlook)
    processes = watcher.processes
    processes.made = data["made"]
    processes.store = msgspec.convert(data["store"], FdStore, str_keys=True)
    processes.board = Scoreboard.restore(**data["board"])
    processes.figures = msgspec.convert(data["figures"], WatcherFigures, str_keys=True)
    for each in data["processes"]:
        process = msgspec.convert(each, Process)
        processes.keep(process, _resources_of(process, processes.board, services))
    processes.groups.extend(msgspec.convert(each, OrphanedGroup) for each in data["groups"])
    for each in data["slots"]:
        watcher.slots[each["wid"]] = _to_slot(each, processes)
    watcher.population.zygotes.restore([msgspec.convert(each, ZygoteState) for each in data["zygotes"]])
    watcher.rehearser.current = msgspec.convert(data["rehearsal"], Rehearsal | None)
    watcher.rehearser.watch()


def _resources_of(process: Process, board: Scoreboard, services: SpawnServices) -> Resources:
    notify = None if process.notify < 0 else services.restore_notify(process.notify, process.notify_address)
    return Resources(None if process.record < 0 else board.place(process.record), notify)
