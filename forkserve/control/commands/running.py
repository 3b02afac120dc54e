"""The verbs that start, stop and replace processes; each returns a Completion, or what was done."""

from __future__ import annotations

import os

from forkserve.config.naming import identity_of
from forkserve.config.values import signal_name as signal_number
from forkserve.control.commands.context import Context
from forkserve.control.schema.reports import Done
from forkserve.control.schema.requests import (
    Amount,
    HoldTarget,
    Killing,
    Nothing,
    OneTimer,
    OneToReplace,
    ReloadTarget,
    SignalTo,
    StopTarget,
    Upgrade,
    Waiting,
)
from forkserve.control.usage import child_pids
from forkserve.errors import ControlError, UnknownNameError
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobqueue.rollback import rollback_of
from forkserve.supervision.jobs.advance import Kill, Reload, Resize, RunOnce, SlotJob
from forkserve.supervision.process import Process
from forkserve.supervision.watcher import Watcher
from forkserve.wording import signal_name

__all__ = [
    "decr",
    "drain",
    "incr",
    "kill",
    "quit",
    "reload",
    "reloadconfig",
    "reopenlogs",
    "restart",
    "rollback",
    "run",
    "signal",
    "start",
    "stop",
    "undrain",
    "upgrade",
]

WATCH = 30.0
"""Seconds for which a canary is compared by default."""
DEEPEST = 1000
"""Most descendants of one process that are signalled."""


def _named(asked: StopTarget) -> list[str] | None:
    return asked.watchers if asked.watcher is None else [asked.watcher]


def start(context: Context, asked: StopTarget) -> Completion:
    return _at_slot(context, asked.watcher, starts=True) or context.master.start(_named(asked))


def stop(context: Context, asked: StopTarget) -> Completion:
    return _at_slot(context, asked.watcher, stops=True) or context.master.stop(_named(asked))


def restart(context: Context, asked: StopTarget) -> Completion:
    return _at_slot(context, asked.watcher, stops=True, starts=True) or context.master.restart(_named(asked))


def _at_slot(context: Context, name: str | None, *, stops: bool = False, starts: bool = False) -> Completion | None:
    """Submit the job for one process, if the name is that of one."""
    found = None if name is None else context.master.supervisor.slot_named(name)
    if found is None:
        return None
    watcher, wid = found[0].watcher, found[1]
    place = str(identity_of(watcher.options, wid))
    if watcher.timer.exists:
        raise ControlError(f"{watcher.name} has a schedule: its processes are runs")
    if not 1 <= wid <= watcher.target:
        raise UnknownNameError(f"{place}: no such process; {watcher.name} has {watcher.target}", "no-such-process")
    pids = tuple(each.pid for each in watcher.processes if each.wid == wid and each.is_alive)
    return context.master.submit(watcher.name, SlotJob(wid, place, pids, stops=stops, starts=starts))


def reload(context: Context, asked: ReloadTarget) -> Completion:
    if asked.canary is not None:
        if asked.watcher is None or asked.terminate or asked.at_once:
            raise ControlError("a canary is that of one watcher, without terminate and at_once: reload NAME --canary N")
        seconds = WATCH if asked.watch is None else asked.watch
        return context.master.submit(asked.watcher, Reload(canary=asked.canary, watch=seconds))
    if asked.watch is not None:
        raise ControlError("watch is the time for which a canary is compared: add --canary N")
    if asked.terminate:
        return context.master.restart(None if asked.watcher is None else [asked.watcher])
    return context.master.reload(asked.watcher, Reload(at_once=asked.at_once))


def rollback(context: Context, asked: OneToReplace) -> Completion:
    supervisor = context.master.supervisor
    watcher = supervisor.queue(asked.watcher).watcher
    if not watcher.up:
        raise ControlError(f"{watcher.name} is stopped: start it")
    return context.master.submit(asked.watcher, rollback_of(watcher, supervisor.pool.numbers))


def run(context: Context, asked: OneTimer) -> Completion:
    return context.master.submit(asked.watcher, RunOnce())


def drain(context: Context, asked: HoldTarget) -> Done:
    return _hold(context, asked, wanted=True)


def undrain(context: Context, asked: HoldTarget) -> Done:
    return _hold(context, asked, wanted=False)


def _hold(context: Context, asked: HoldTarget, *, wanted: bool) -> Done:
    queue, wid = context.master.supervisor.place(asked.watcher)
    wid = wid if asked.wid is None else asked.wid
    return Done(True, context.master.hold(queue.watcher.name, wid=wid, wanted=wanted))


def reloadconfig(context: Context, _asked: Waiting) -> Completion:
    return context.master.reload_config()


def incr(context: Context, asked: Amount) -> Completion:
    return _resize(context, asked.watcher, asked.count)


def decr(context: Context, asked: Amount) -> Completion:
    """Run fewer, down to none."""
    return _resize(context, asked.watcher, -asked.count)


def _resize(context: Context, name: str, change: int) -> Completion:
    watcher = context.master.supervisor.queue(name).watcher
    if watcher.options.singleton and watcher.target + change > 1:
        error = ControlError(f"{watcher.name} is a singleton: it has at most one process")
        error.code = "singleton"
        raise error
    return context.master.submit(name, Resize(max(0, watcher.target + change)))


def signal(context: Context, asked: SignalTo) -> Done:
    signum = _signal(asked.signal)
    queue, wid = context.master.supervisor.place(asked.watcher)
    watcher, wid = queue.watcher, wid if asked.wid is None else asked.wid
    # a zygote is no worker: it is meant only where it is named
    named = asked.pid is not None or wid is not None
    chosen = [each for each in (watcher.processes if named else watcher.processes.workers) if each.is_alive]
    chosen = [each for each in chosen if asked.pid in (None, each.pid) and wid in (None, each.wid)]
    if not chosen:
        raise _no_such_process(watcher, asked.pid)
    if not (asked.children or asked.recursive or asked.childpid is not None):
        count = watcher.signal(signum, only=lambda each: each in chosen)
        return Done(True, f"{watcher.name}: {signal_name(signum)} sent to {count} of {len(watcher.processes.workers)}")
    return Done(True, _signal_below(watcher, chosen, signum, asked))


def _signal_below(watcher: Watcher, chosen: list[Process], signum: int, asked: SignalTo) -> str:
    """Signal descendants: one child, the direct ones, or all, together with the processes themselves."""
    below = [pid for each in chosen for pid in _descendants(each.pid, deep=asked.recursive)]
    if asked.childpid is not None:
        below = [pid for pid in below if pid == asked.childpid]
        if not below:
            raise UnknownNameError(f"{watcher.name}: {asked.childpid} is no child of it", "no-such-process")
    elif asked.recursive and not asked.children:
        watcher.signal(signum, only=lambda each: each in chosen)
    count = watcher.processes.signaller.signal_below(below, signum)
    return f"{watcher.name}: {signal_name(signum)} sent to {count} below {len(chosen)}"


def _descendants(pid: int, *, deep: bool) -> list[int]:
    found = list(child_pids(pid) or ())
    if deep:
        for child in found:  # it grows by what is found
            if len(found) < DEEPEST:
                found += child_pids(child) or ()
    return found


def kill(context: Context, asked: Killing) -> Completion:
    queue, wid = context.master.supervisor.place(asked.watcher)
    watcher = queue.watcher
    named = watcher.processes.workers if asked.pid is None else watcher.processes
    chosen = [each for each in named if asked.pid in (None, each.pid) and wid in (None, each.wid)]
    pids = {each.pid for each in chosen if each.is_alive}
    if not pids:
        raise _no_such_process(watcher, asked.pid)
    signum = None if asked.signum is None else _signal(asked.signum)
    return context.master.submit(watcher.name, Kill(tuple(sorted(pids)), signum, asked.graceful_timeout))


def _no_such_process(watcher: Watcher, pid: int | None) -> UnknownNameError:
    which = "no such process" if pid is None else f"no such process, {pid}"
    return UnknownNameError(f"{watcher.name}: {which}", "no-such-process")


def _signal(text: str | int) -> int:
    try:
        return signal_number(str(text))
    except ValueError as error:
        raise ControlError(f"signal: {error}") from None


def reopenlogs(context: Context, _asked: Nothing) -> Done:
    context.master.reopen_logs()
    return Done(True, "log files reopened")


def upgrade(context: Context, asked: Upgrade) -> Completion:
    if asked.python is not None and asked.exec is not None:
        raise ControlError("give python or exec, not both")
    path = asked.python or asked.exec
    if path is not None and not os.path.isabs(path):
        raise ControlError(f"{path}: give the whole path, from / on")
    command = () if path is None else (path, "-m", "forkserve") if asked.python else (path,)
    return context.master.upgrade(command, within=asked.within)


def quit(context: Context, _asked: Waiting) -> Completion:
    return context.master.quit()
