"""The verbs: one typed function each, over the master. No bytes here, and nothing of HTTP.

A verb takes validated parameters and returns its answer, a Completion for work that takes time, or Steps, which are
taken a few at a time, so that a question about hundreds of processes holds up no event. VERBS is the one table that
the server, its index and the tests read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import forkserve
from forkserve.config.model import WatcherOptions
from forkserve.config.options import ReloadCost, options_of
from forkserve.config.values import signal_name
from forkserve.control.http import StreamReply
from forkserve.control.schema import (
    Amount,
    Done,
    Events,
    Nothing,
    ProcessReport,
    Quitting,
    Selected,
    SetOptions,
    SignalTo,
    SlotReport,
    SocketReport,
    StopTarget,
    Version,
    WatcherReport,
)
from forkserve.control.stream import KEPT, EventHistory
from forkserve.control.usage import Meter
from forkserve.errors import ControlError
from forkserve.master import Master
from forkserve.suggest import nearest
from forkserve.supervision.completion import Completion
from forkserve.supervision.snapshot import ProcessView, WatcherView

__all__ = ["VERBS", "Verb", "Context", "Steps"]

Steps = Generator[None, None, list[WatcherReport]]
"""Looks at one process in each step, and returns the answer."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb works on."""

    master: Master
    meter: Meter
    events: EventHistory


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: the structure its parameters must fit, whether it only reads, and the function that does it."""

    parameters: type[Any]
    reads: bool
    run: Callable[[Context, Any], Any]


def _version(context: Context, _asked: Nothing) -> Version:
    master = context.master
    uptime = master.loop.now() - master.started_at
    return Version(forkserve.__version__, os.getpid(), round(uptime, 3), list(VERBS), master.name, master.description)


def _list(context: Context, _asked: Nothing) -> list[str]:
    return [view.name for view in context.master.views()]


def _status(context: Context, asked: Selected) -> Steps:
    return _reports(context, _views(context, asked), closely=False)


def _stats(context: Context, asked: Selected) -> Steps:
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
    )


def _listsockets(context: Context, _asked: Nothing) -> list[SocketReport]:
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


def _events(context: Context, asked: Events) -> StreamReply:
    watcher = "" if asked.watcher is None else context.master.view(asked.watcher).name
    last = KEPT if asked.after and not asked.last else asked.last
    first = context.events.past(watcher=watcher, last=last, after=asked.after)
    return StreamReply(first, partial(context.events.follow, watcher=watcher) if asked.follow else None)


def _start(context: Context, asked: StopTarget) -> Completion:
    return context.master.start(asked.watcher)


def _stop(context: Context, asked: StopTarget) -> Completion:
    return context.master.stop(asked.watcher)


def _restart(context: Context, asked: StopTarget) -> Completion:
    return context.master.restart(asked.watcher)


def _reload(context: Context, asked: StopTarget) -> Completion:
    return context.master.reload(asked.watcher)


def _reloadconfig(context: Context, _asked: Nothing) -> Completion:
    return context.master.reload_config()


def _incr(context: Context, asked: Amount) -> Completion:
    return context.master.incr(asked.watcher, asked.count)


def _decr(context: Context, asked: Amount) -> Completion:
    return context.master.decr(asked.watcher, asked.count)


def _set(context: Context, asked: SetOptions) -> Completion:
    """Check every option before any is changed; only the number of processes can be set so far."""
    context.master.view(asked.watcher)
    for name in asked.options:
        if name != "numprocesses":
            raise ControlError(_cannot_set(name))
    value = asked.options.get("numprocesses")
    if value is None:
        raise ControlError("no option given")
    try:
        number = int(str(value))
    except ValueError:
        raise ControlError(f"numprocesses: expected an integer, got {value!r}") from None
    return context.master.set_numprocesses(asked.watcher, number)


def _cannot_set(name: str) -> str:
    known = {option.name: option for option in options_of(WatcherOptions)}
    if name not in known:
        return f"unknown option {name!r}{nearest(name, known)}"
    cost = known[name].reload
    how = "change it in the configuration, then `forkservectl reloadconfig`"
    return f"{name} cannot be set while running{'' if cost is ReloadCost.LIVE else f' ({cost.value})'}: {how}"


def _signal(context: Context, asked: SignalTo) -> Done:
    try:
        signum = signal_name(str(asked.signal))
    except ValueError as error:
        raise ControlError(f"signal: {error}") from None
    return Done(True, context.master.signal(asked.watcher, signum, pid=asked.pid, wid=asked.wid))


def _reopenlogs(context: Context, _asked: Nothing) -> Done:
    context.master.reopen_logs()
    return Done(True, "log files reopened")


def _quit(context: Context, _asked: Quitting) -> Completion:
    return context.master.quit()


VERBS: dict[str, Verb] = {
    "version": Verb(Nothing, True, _version),
    "list": Verb(Nothing, True, _list),
    "status": Verb(Selected, True, _status),
    "stats": Verb(Selected, True, _stats),
    "listsockets": Verb(Nothing, True, _listsockets),
    "events": Verb(Events, True, _events),
    "start": Verb(StopTarget, False, _start),
    "stop": Verb(StopTarget, False, _stop),
    "restart": Verb(StopTarget, False, _restart),
    "reload": Verb(StopTarget, False, _reload),
    "reloadconfig": Verb(Nothing, False, _reloadconfig),
    "incr": Verb(Amount, False, _incr),
    "decr": Verb(Amount, False, _decr),
    "set": Verb(SetOptions, False, _set),
    "signal": Verb(SignalTo, False, _signal),
    "reopenlogs": Verb(Nothing, False, _reopenlogs),
    "quit": Verb(Quitting, False, _quit),
}
