"""What a master leaves to its keeper, and how another master begins with it. Pure.

Theory of operation. It is the state of an upgrade without what ends with a master: clients, the control socket,
sidecars, zygotes and what waits for them, and without what the next start makes by itself. Processes are known by pid
and time of start. Whatever time was running is given again, since nobody has listened meanwhile.

Rules: as for `watchers`. Descriptors that are not named here are not held, and end with the master.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from forkserve.config.handover import ZYGOTE_WID
from forkserve.supervision.deadline import DeadlineKind
from forkserve.unix.descriptors import descriptor

__all__ = ["addresses_in", "groups_in", "pids_in", "to_keep", "to_resume"]

Data = dict[str, Any]

_MISSED_NUMBERS = 10_000
"""Numbers of notify sockets that are passed over: the master may have used some since it told its keeper last."""


def to_keep(data: Data, started: Callable[[int], int | None]) -> Data:
    """Return what is kept of a state; `started` tells the time of start of a pid."""
    nobody = descriptor(-1)
    kept = {
        **data,
        **dict.fromkeys(("pidfile", "background", "log_program", "control", "upgrade")),
        "sidecars": [],
        "adopted": {},
        "status": {**data["status"], "server": None},
        "companions": {**data["companions"], "guard": None, "asked_at": nobody},
        "supervisor": {**data["supervisor"], "watchers": [_watcher(each) for each in data["supervisor"]["watchers"]]},
    }
    return {**kept, "started": {str(pid): started(pid) for pid in pids_in(kept)}}


def _watcher(data: Data) -> Data:
    processes = [{**each, "promotion": descriptor(-1)} for each in data["processes"] if _stays(each)]
    return {**data, "zygotes": [], "processes": processes}


def _stays(process: Mapping[str, Any]) -> bool:
    return bool(process["wid"] != ZYGOTE_WID and process["pid"])


def _processes(data: Data) -> Iterator[Data]:
    for watcher in data["supervisor"]["watchers"]:
        yield from watcher["processes"]


def pids_in(data: Data) -> frozenset[int]:
    """Return the pids of all that are to live on: processes, those that try a command, and the writer of logs."""
    pids = {each["pid"] for each in _processes(data) if each["exit"] is None}
    tried = {each["rehearsal"]["pid"] for each in data["supervisor"]["watchers"] if each["rehearsal"]}
    return frozenset(pid for pid in pids | tried | {data["companions"]["streams"]["pid"]} if pid)


def addresses_in(data: Data) -> frozenset[str]:
    """Return the addresses of the notify sockets of all processes."""
    return frozenset(each["notify_address"] for each in _processes(data))


def groups_in(data: Data) -> frozenset[int]:
    """Return the process groups that the state knows."""
    left = {group["pgid"] for watcher in data["supervisor"]["watchers"] for group in watcher["groups"]}
    return frozenset({each["group"] or each["pid"] for each in _processes(data)} | left)


def to_resume(data: Data, now: float) -> Data:
    """Return what another master goes on with at an instant."""
    notify, companions, known = data["notify"], data["companions"], groups_in(data)
    watchers = [
        {**each, "processes": [_resumed(process, now) for process in each["processes"]]}
        for each in data["supervisor"]["watchers"]
    ]
    groups = {pgid: each for pgid, each in companions["groups"].items() if int(pgid) in known}
    return {
        **data,
        "supervisor": {**data["supervisor"], "watchers": watchers},
        "notify": {**notify, "made": notify["made"] + _MISSED_NUMBERS},
        "companions": {**companions, "groups": groups},
    }


def _resumed(process: Data, now: float) -> Data:
    deadline = process["deadline"]
    if deadline is not None and deadline["kind"] != DeadlineKind.KILL.value:
        deadline = {**deadline, "instant": now + deadline["timeout"]}
    watchdog_at = None if process["watchdog_at"] is None else now + process["watchdog"]
    probe_at = None if process["probe_at"] is None else max(now, process["probe_at"])
    resumed = {"adopted": True, "deadline": deadline, "watchdog_at": watchdog_at, "probe_at": probe_at}
    return {**process, **resumed, "deaf_until": None}
