"""The verbs that start, stop and replace processes; each returns a Completion, or what was done."""

from __future__ import annotations

from forkserve.config.values import signal_name
from forkserve.control.context import Context
from forkserve.control.schema import Amount, Done, Nothing, Quitting, SignalTo, StopTarget
from forkserve.errors import ControlError
from forkserve.supervision.completion import Completion

__all__ = ["decr", "incr", "quit", "reload", "reloadconfig", "reopenlogs", "restart", "signal", "start", "stop"]


def start(context: Context, asked: StopTarget) -> Completion:
    return context.master.start(asked.watcher)


def stop(context: Context, asked: StopTarget) -> Completion:
    return context.master.stop(asked.watcher)


def restart(context: Context, asked: StopTarget) -> Completion:
    return context.master.restart(asked.watcher)


def reload(context: Context, asked: StopTarget) -> Completion:
    return context.master.reload(asked.watcher)


def reloadconfig(context: Context, _asked: Nothing) -> Completion:
    return context.master.reload_config()


def incr(context: Context, asked: Amount) -> Completion:
    return context.master.incr(asked.watcher, asked.count)


def decr(context: Context, asked: Amount) -> Completion:
    return context.master.decr(asked.watcher, asked.count)


def signal(context: Context, asked: SignalTo) -> Done:
    try:
        signum = signal_name(str(asked.signal))
    except ValueError as error:
        raise ControlError(f"signal: {error}") from None
    return Done(True, context.master.signal(asked.watcher, signum, pid=asked.pid, wid=asked.wid))


def reopenlogs(context: Context, _asked: Nothing) -> Done:
    context.master.reopen_logs()
    return Done(True, "log files reopened")


def quit(context: Context, _asked: Quitting) -> Completion:
    return context.master.quit()
