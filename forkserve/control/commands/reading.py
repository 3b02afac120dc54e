"""The verbs that only read: which master answers, what runs, what it uses, what has happened.

Each takes validated parameters, and returns its answer, a stream, or Steps, so that a request about hundreds of
processes delays no event.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial

import msgspec

import forkserve
from forkserve.control.commands.context import Context, Later, Steps
from forkserve.control.commands.extended import extended
from forkserve.control.http import StreamReply
from forkserve.control.sampler import Measure, Usages
from forkserve.control.schema.reports import (
    ProcessReport,
    RunReport,
    SlotReport,
    SocketReport,
    StackReport,
    TimerReport,
    Version,
    WatcherReport,
)
from forkserve.control.schema.requests import Events, Nothing, Selected, SelectedProcess, StacksFor
from forkserve.control.stream import KEPT
from forkserve.control.verbs import VERBS
from forkserve.errors import UnknownNameError
from forkserve.supervision.lifecycle import ProcessState
from forkserve.supervision.liveness.stacks import StacksOf, StacksRequest, processes_named
from forkserve.supervision.snapshot import ProcessView, RunResult, TimerView, WatcherView
from forkserve.unix.listeners import BoundListener
from forkserve.unix.queues import whole_length

__all__ = [
    "dstats",
    "events",
    "list_",
    "listsockets",
    "numprocesses",
    "numwatchers",
    "reports_of",
    "stacks",
    "stats",
    "status",
    "version",
]


def version(context: Context, _asked: Nothing) -> Version:
    master = context.master
    uptime = master.loop.now() - master.started_at
    return Version(forkserve.__version__, os.getpid(), round(uptime, 3), list(VERBS), master.name, master.description)


def list_(context: Context, asked: Selected) -> list[str] | list[int]:
    if asked.watcher is None:
        return [watcher.name for watcher in context.master.supervisor.watchers]
    queue, wid = context.master.supervisor.place(asked.watcher)
    there = (each for each in queue.watcher.processes if each.is_alive and not each.is_asked_to_end)
    return [process.pid for process in there if wid in (None, process.wid)]


def numwatchers(context: Context, _asked: Nothing) -> int:
    return len(context.master.supervisor.watchers)


def numprocesses(context: Context, asked: Selected) -> int:
    """Return how many run, without those that were told to end, as `list` shows them."""
    supervisor = context.master.supervisor
    meant = supervisor.watchers if asked.watcher is None else [supervisor.queue(asked.watcher).watcher]
    return sum(not each.is_asked_to_end for watcher in meant for each in watcher.processes.workers)


def status(context: Context, asked: Selected) -> Steps:
    found = None if asked.watcher is None else context.master.supervisor.slot_named(asked.watcher)
    if found is not None:
        return _of_slot(reports_of(context, [found[0].watcher.name], closely=False), found[1])
    return reports_of(context, _names(context, asked.watcher), closely=False)


def _of_slot(steps: Steps, wid: int) -> Steps:
    """Return the report of the watcher with one slot alone."""
    reports = yield from steps
    return [
        msgspec.structs.replace(
            each,
            processes=[process for process in each.processes if process.wid == wid],
            slots=[slot for slot in each.slots if slot.wid == wid],
        )
        for each in reports
    ]


def stats(context: Context, asked: SelectedProcess) -> Steps:
    names = _names(context, asked.watcher)
    if asked.pid is not None:
        pids = [pid for name in names for pid in context.master.supervisor.queue(name).watcher.processes.pids]
        if asked.pid not in pids:
            where = "" if asked.watcher is None else f" in {asked.watcher!r}"
            raise UnknownNameError(f"process {asked.pid} not found{where}", "no-such-process")
    found = reports_of(context, names, closely=True, only=asked.pid)
    return extended(context, found) if asked.extended else found


def _names(context: Context, name: str | None) -> list[str]:
    supervisor = context.master.supervisor
    queues = supervisor if name is None else supervisor.queues_named(name)
    return [queue.watcher.name for queue in queues]


def reports_of(context: Context, names: list[str], *, closely: bool, only: int | None = None) -> Steps:
    """Return a WatcherReport for each of the names that still exists."""
    supervisor = context.master.supervisor
    pids: frozenset[int] = frozenset()
    for name in names:
        pids |= supervisor.queue(name).watcher.processes.pids
    usages = yield Measure(pids if only is None else pids & {only}, closely)
    reports = []
    known = {watcher.name for watcher in supervisor.watchers}
    for name in names:
        if name in known:  # it may have gone while others were looked at
            view = context.master.view(name)
            found = [each for each in view.processes if only in (None, each.pid)]
            reports.append(_report(view, [_process(each, usages, closely=closely) for each in found]))
        yield None
    return reports


def _report(view: WatcherView, processes: list[ProcessReport]) -> WatcherReport:
    return WatcherReport(
        name=view.name,
        state=view.state.value,
        numprocesses=view.numprocesses,
        restarts=view.restarts,
        command=" ".join(filter(None, (view.options.cmd, view.options.args))),
        reason=next((slot.reason for slot in view.slots if slot.reason), "") if not view.workers else "",
        processes=processes,
        generation=view.generation,
        slots=[
            SlotReport(each.wid, each.state.value, each.reason, each.retry_in, each.name, each.stopped)
            for each in view.slots
        ],
        doing=view.doing,
        timer=None if view.timer is None else _timer(view.timer),
    )


def _timer(view: TimerView) -> TimerReport:
    next_in = None if view.next_at is None else round(max(view.next_at - view.now, 0.0), 3)
    last = None if view.last is None else _run(view.last, view.now)
    return TimerReport(view.schedule, view.time_zone, view.next_at, next_in, list(view.running), view.queued, last)


def _run(last: RunResult, now: float) -> RunReport:
    return RunReport(
        run=last.number,
        cause=last.cause.value,
        began=last.began,
        seconds=round(last.seconds, 3),
        ago=round(max(now - last.began - last.seconds, 0.0), 3),
        code=last.code,
        signal=last.signum,
        text=last.text(),
    )


def _process(process: ProcessView, usages: Usages, *, closely: bool) -> ProcessReport:
    usage = usages.get(process.pid)
    return ProcessReport(
        name=process.name,
        wid=process.wid,
        pid=process.pid,
        state=_state(process),
        uptime=round(process.uptime, 3),
        generation=process.generation,
        cpu=usage.cpu if usage else None,
        memory=usage.memory if usage else None,
        threads=usage.threads if usage and closely else None,
        fds=usage.fds if usage and closely else None,
        children=len(usage.children) if usage and closely and usage.children is not None else None,
        status=process.status,
        zygote=process.is_zygote,
        adopted=process.is_adopted,
        pss=usage.pss if usage and closely else None,
        usage=usage if closely else None,
        circus_wid=process.circus_wid if process.circus_wid != process.wid else None,
    )


def _state(process: ProcessView) -> str:
    """Return what a process is doing; "zygote" is ready to fork, and serves no requests."""
    return "zygote" if process.is_zygote and process.state is ProcessState.READY else process.state.name.lower()


def dstats(context: Context, _asked: Nothing) -> Steps:
    names = {os.getpid(): "master", **context.master.companions}
    usages = yield Measure(frozenset(names), closely=True)
    found = [(name, usages[pid]) for pid, name in names.items() if pid in usages]
    return [msgspec.structs.replace(usage, children=None, name=name) for name, usage in found]


def listsockets(context: Context, _asked: Nothing) -> list[SocketReport]:
    return [
        SocketReport(
            name=listener.name,
            fd=listener.socket.fileno(),
            address=listener.address,
            family=listener.socket.family.name,
            type=listener.socket.type.name,
            backlog=listener.options.backlog,
            queued=_queued(listener),
        )
        for listener in context.master.supervisor.pool
    ]


def _queued(listener: BoundListener) -> int | None:
    if listener.socket.family not in (socket.AF_INET, socket.AF_INET6) or listener.socket.type != socket.SOCK_STREAM:
        return None
    length = whole_length(listener.sockets)
    return None if length is None else length.waiting  # it is closed while unused


def stacks(context: Context, asked: StacksFor) -> Later:
    """Ask processes for their stacks; refused at once if there is none."""
    named = processes_named(context.master.supervisor, asked.target)

    def begin(answer: Callable[[list[StackReport]], None]) -> None:
        StacksRequest(context.master.loop, named, lambda found: answer([_stacks(each) for each in found]))

    return Later(begin)


def _stacks(found: StacksOf) -> StackReport:
    return StackReport(found.name, found.pid, found.text.splitlines())


def events(context: Context, asked: Events) -> StreamReply:
    watcher = "" if asked.watcher is None else context.master.view(asked.watcher).name
    last = KEPT if asked.after and not asked.last else asked.last
    first = context.events.past(watcher=watcher, last=last, after=asked.after)
    return StreamReply(first, partial(context.events.follow, watcher=watcher) if asked.follow else None)
