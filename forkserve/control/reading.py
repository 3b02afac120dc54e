"""The verbs that only read: who answers, what runs, what it uses, what has happened.

Each takes validated parameters, and returns its answer, a stream, or Steps, so that a question about hundreds of
processes holds up no event.
"""

from __future__ import annotations

import os
from functools import partial

import forkserve
from forkserve.control.context import Context, Steps
from forkserve.control.http import StreamReply
from forkserve.control.schema import (
    Events,
    Nothing,
    ProcessReport,
    Selected,
    SlotReport,
    SocketReport,
    Version,
    WatcherReport,
)
from forkserve.control.stream import KEPT
from forkserve.control.verbs import VERBS
from forkserve.supervision.snapshot import ProcessView, WatcherView

__all__ = ["events", "list_", "listsockets", "stats", "status", "version"]


def version(context: Context, _asked: Nothing) -> Version:
    master = context.master
    uptime = master.loop.now() - master.started_at
    return Version(forkserve.__version__, os.getpid(), round(uptime, 3), list(VERBS), master.name, master.description)


def list_(context: Context, _asked: Nothing) -> list[str]:
    return [view.name for view in context.master.views()]


def status(context: Context, asked: Selected) -> Steps:
    return _reports(context, _views(context, asked), closely=False)


def stats(context: Context, asked: Selected) -> Steps:
    return _reports(context, _views(context, asked), closely=True)


def _reports(context: Context, views: tuple[WatcherView, ...], *, closely: bool) -> Steps:
    reports = []
    for view in views:
        processes = []
        for process in view.processes:
            processes.append(_process(context, process, closely=closely))
            yield
        reports.append(_report(view, processes))
    return reports


def _views(context: Context, asked: Selected) -> tuple[WatcherView, ...]:
    master = context.master
    views = master.views() if asked.watcher is None else (master.view(asked.watcher),)
    if asked.watcher is None:
        context.meter.forget_all_but(process.pid for view in views for process in view.processes)
    return views


def _report(view: WatcherView, processes: list[ProcessReport]) -> WatcherReport:
    return WatcherReport(
        name=view.name,
        state=view.state.value,
        numprocesses=view.numprocesses,
        restarts=view.restarts,
        command=" ".join(filter(None, (view.options.cmd, view.options.args))),
        reason=next((slot.reason for slot in view.slots if slot.reason), "") if not view.processes else "",
        processes=processes,
        generation=view.generation,
        slots=[SlotReport(each.wid, each.state.value, each.reason, each.retry_in) for each in view.slots],
    )


def _process(context: Context, process: ProcessView, *, closely: bool) -> ProcessReport:
    usage = context.meter.measure(process.pid, closely=closely)
    return ProcessReport(
        name=process.name,
        wid=process.wid,
        pid=process.pid,
        state=process.state.name.lower(),
        uptime=round(process.uptime, 3),
        generation=process.generation,
        cpu=usage.cpu if usage else None,
        memory=usage.memory if usage else None,
        threads=usage.threads if usage and closely else None,
        fds=usage.fds if usage else None,
        children=usage.children if usage else None,
        status=process.status,
    )


def listsockets(context: Context, _asked: Nothing) -> list[SocketReport]:
    return [
        SocketReport(
            name=listener.name,
            fd=listener.socket.fileno(),
            address=listener.address,
            family=listener.socket.family.name,
            type=listener.socket.type.name,
        )
        for listener in context.master.supervisor.pool
    ]


def events(context: Context, asked: Events) -> StreamReply:
    watcher = "" if asked.watcher is None else context.master.view(asked.watcher).name
    last = KEPT if asked.after and not asked.last else asked.last
    first = context.events.past(watcher=watcher, last=last, after=asked.after)
    return StreamReply(first, partial(context.events.follow, watcher=watcher) if asked.follow else None)
