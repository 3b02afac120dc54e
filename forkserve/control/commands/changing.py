"""The verbs that change what is configured, until the configuration is read again: watchers, their options, sockets.

Each is one change of the configuration as a whole, judged as the file is: it is taken, or nothing happens.
"""

from __future__ import annotations

import os
from typing import Any

from forkserve.config.document import Findings
from forkserve.config.editing import (
    AddSocket,
    AddWatcher,
    ConfigEdit,
    RemoveSocket,
    RemoveWatcher,
    SetSocket,
    SetWatcher,
)
from forkserve.control.commands.context import Context
from forkserve.control.schema.reports import Done
from forkserve.control.schema.requests import Adding, OneSocket, Removing, SetOptions, SocketOptionsOf
from forkserve.errors import ControlError, UnknownNameError
from forkserve.suggest import nearest
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobs.advance import Resize
from forkserve.supervision.reload.requests import ChangeRequest

__all__ = ["add", "addsocket", "rm", "rmsocket", "set_", "setsocket"]


def set_(context: Context, asked: SetOptions) -> Completion:
    """Change options; the number of processes alone is a job of the watcher, and waits for nothing."""
    watcher = context.master.supervisor.queue(asked.watcher).watcher
    if not asked.options:
        raise ControlError("no option given")
    number = _numprocesses(asked.options)
    if number is not None and len(asked.options) == 1:
        return context.master.submit(asked.watcher, Resize(number))
    edit = SetWatcher(watcher.name, asked.options)
    done = _ask(context, edit, f"{watcher.name}: {', '.join(asked.options)} set", may_replace=asked.reload)
    return done if number is None else _then_resize(context, done, watcher.name, number)


def _numprocesses(options: dict[str, Any]) -> int | None:
    if "numprocesses" not in options:
        return None
    value = options["numprocesses"]
    try:
        number = int(str(value))
    except ValueError:
        raise ControlError(f"numprocesses: expected an integer, got {value!r}") from None
    if number < 0:
        raise ControlError(f"numprocesses must be at least 0, got {number}")
    return number


def _then_resize(context: Context, changed: Completion, name: str, number: int) -> Completion:
    """Have as many processes as was asked for, which `incr` may have made others than the options say."""
    both = Completion()

    def resize(completion: Completion) -> None:
        if completion.error is not None:
            both.fail(completion.error)
            return
        try:
            context.master.submit(name, Resize(number)).when_done(both.follow)
        except ControlError as error:  # it was removed meanwhile
            both.fail(error)

    changed.when_done(resize)
    return both


def add(context: Context, asked: Adding) -> Completion:
    options: dict[str, Any] = {**(asked.options or {}), "cmd": asked.cmd}
    if asked.args is not None:
        options["args"] = asked.args
    if any(each.name.lower() == asked.watcher.lower() for each in context.master.supervisor.watchers):
        raise ControlError(f"{asked.watcher!r} already exists")
    done = f"{asked.watcher}: added{' and started' if asked.start else ''}"
    return _ask(context, AddWatcher(asked.watcher, options), done, starts=asked.start)


def rm(context: Context, asked: Removing) -> Completion | Done:
    watcher = context.master.supervisor.queue(asked.watcher).watcher
    if asked.nostop:
        if context.master.reloader.is_busy:
            raise ControlError("the configuration is being changed; try again when that is done")
        return Done(True, context.master.supervisor.forget(watcher.name))
    return _ask(context, RemoveWatcher(watcher.name), f"{watcher.name}: removed")


def addsocket(context: Context, asked: SocketOptionsOf) -> Completion:
    if asked.socket in context.master.supervisor.pool:
        raise ControlError(f"socket {asked.socket!r} already exists")
    return _ask(context, AddSocket(asked.socket, asked.options), f"socket {asked.socket}: listening")


def setsocket(context: Context, asked: SocketOptionsOf) -> Completion:
    _insist_on_socket(context, asked.socket)
    return _ask(context, SetSocket(asked.socket, asked.options), f"socket {asked.socket}: changed")


def rmsocket(context: Context, asked: OneSocket) -> Completion:
    _insist_on_socket(context, asked.socket)
    return _ask(context, RemoveSocket(asked.socket), f"socket {asked.socket}: closed")


def _insist_on_socket(context: Context, name: str) -> None:
    pool = context.master.supervisor.pool
    if name not in pool:
        hint = nearest(name, pool.names) or f"; there is {', '.join(pool.names) or 'none'}"
        raise UnknownNameError(f"no socket {name!r}{hint}", "no-such-socket")


def _ask(context: Context, edit: ConfigEdit, done: str, *, may_replace: bool = True, starts: bool = True) -> Completion:
    findings = Findings()
    # mistakes in the values are reported at once; names of users, folders and programs are looked up aside
    edit.apply(context.master.supervisor.in_force, os.environ, findings)
    findings.raise_errors()
    wanted = ChangeRequest(edit=edit, may_replace=may_replace, starts=starts, done=done)
    return context.master.change(wanted)
