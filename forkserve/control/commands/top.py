"""The verb behind `forkservectl top`: what runs, and what it has counted so far."""

from __future__ import annotations

import os

import forkserve
from forkserve.control.commands.context import Context, Steps
from forkserve.control.commands.reading import reports_of
from forkserve.control.schema.top import ProcessTraffic, QueueReport, TopAsked, TopReport, WatcherTraffic
from forkserve.supervision.figures import Histogram
from forkserve.supervision.process import Process
from forkserve.supervision.watcher import Watcher
from forkserve.unix.counters import BOUNDS
from forkserve.unix.listeners import BoundListener
from forkserve.unix.queues import whole_length

__all__ = ["top"]

MOST = 1_000_000
"""Most connections, and requests in flight, of one process that are accepted as plausible."""


def top(context: Context, asked: TopAsked) -> Steps:
    """Return a TopReport."""
    master = context.master
    names = [each.name for each in master.supervisor.watchers]
    reports = yield from reports_of(context, names, closely=asked.pss)
    for _step in master.observatory.collect():
        yield None
    traffic = []
    for watcher in tuple(master.supervisor.watchers):
        traffic.append((yield from _traffic(watcher)))
    deploy = context.events.last_deploy
    now = master.loop.now()
    return TopReport(
        at=now,
        version=forkserve.__version__,
        name=master.name,
        source=master.description,
        pid=os.getpid(),
        uptime=round(now - master.started_at, 3),
        bounds=list(BOUNDS),
        watchers=reports,
        traffic=traffic,
        queues=[_queue(each) for each in master.supervisor.pool],
        deploy="" if deploy is None else deploy.text,
        deploy_at=None if deploy is None else deploy.time,
    )


def _traffic(watcher: Watcher) -> Steps:
    """Return a WatcherTraffic; a process in each step."""
    totals = watcher.processes.figures.all()
    whole, errors = Histogram(), 0
    for name, histogram in totals.requests.items():
        whole.add(histogram.counts, histogram.seconds)
        errors += histogram.total if int(name.rpartition(" ")[2]) >= 500 else 0
    known = []
    for each in tuple(watcher.processes):
        known.append(_of_process(watcher, each))
        yield None
    return WatcherTraffic(
        name=watcher.name,
        requests=whole.total,
        errors=errors,
        latency=whole.counts,
        shed=totals.shed,
        processes=[each for each in known if each is not None],
        slots={wid: slot.restarts for wid, slot in watcher.slots.items()},
    )


def _of_process(watcher: Watcher, process: Process) -> ProcessTraffic | None:
    board = watcher.processes.board
    if process.record < 0 or not board.takes_part(process.record):
        return None
    connections, page = board.record(process.record)[3], board.page(process.record)
    return ProcessTraffic(
        pid=process.pid,
        connections=min(max(connections, 0), MOST),
        in_flight=min(max(page.begun - page.ended, 0), MOST),
        requests=page.ended,
    )


def _queue(listener: BoundListener) -> QueueReport:
    length = whole_length(listener.sockets) if listener.is_open else None
    waiting, capacity = (None, None) if length is None else (length.waiting, length.bound)
    return QueueReport(listener.name, listener.address, waiting, capacity)
