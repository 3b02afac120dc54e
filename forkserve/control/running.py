"""The verbs that start, stop and replace processes; each returns a Completion, or what was done."""

from __future__ import annotations

from forkserve.config.values import signal_name
from forkserve.control.context import Context
from forkserve.control.schema import Amount, Done, HoldTarget, Nothing, ReloadTarget, SignalTo, StopTarget, Waiting
from forkserve.errors import ControlError
from forkserve.supervision.completion import Completion

__all__ = [
    "decr",
    "drain",
    "incr",
    "quit",
    "reload",
    "reloadconfig",
    "reopenlogs",
    "restart",
    "signal",
    "start",
    "stop",
    "undrain",
]


def _named(asked: StopTarget) -> list[str] | None:
    return asked.watchers if asked.watcher is None else [asked.watcher]


def start(context: Context, asked: StopTarget) -> Completion:
    return context.master.start(_named(asked))


def stop(context: Context, asked: StopTarget) -> Completion:
    return context.master.stop(_named(asked))


def restart(context: Context, asked: StopTarget) -> Completion:
    return context.master.restart(_named(asked))


def reload(context: Context, asked: ReloadTarget) -> Completion:
    return context.master.reload(asked.watcher)


def drain(context: Context, asked: HoldTarget) -> Done:
    return Done(True, context.master.hold(asked.watcher, wid=asked.wid, wanted=True))


def undrain(context: Context, asked: HoldTarget) -> Done:
    return Done(True, context.master.hold(asked.watcher, wid=asked.wid, wanted=False))


def reloadconfig(context: Context, _asked: Waiting) -> Completion:
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


def quit(context: Context, _asked: Waiting) -> Completion:
    return context.master.quit()
