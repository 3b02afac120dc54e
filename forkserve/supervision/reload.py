"""Takes over a new configuration: plan, prepare, apply.

Rules: everything that can fail comes first, and leaves everything as it was. Only then sockets are swapped and each
watcher gets its own operation. HUP also replaces processes whose options have not changed, since their code may have:
of the watchers that can be replaced without a gap. A single process without a socket of ours (a database, a scheduler)
is left in peace, unless its own section has changed.
"""

from __future__ import annotations

import logging
import os

from forkserve.config.load import ConfigSource
from forkserve.config.model import Config
from forkserve.errors import ConfigErrors, ForkserveError
from forkserve.supervision.command import Command, mixed_readers
from forkserve.supervision.completion import Ticket, all_of
from forkserve.supervision.jobs import Queue, Reload, Resize, Start, Stop
from forkserve.supervision.plan import Change, Plan, plan
from forkserve.supervision.supervisor import Stack
from forkserve.unix.home import enter

__all__ = ["reload_all", "reload_config"]

log = logging.getLogger("forkserve.reload")


def reload_all(stack: Stack) -> Ticket:
    """Replace the processes of every watcher that can be replaced without a gap."""
    queues = [queue for group in stack.by_priority() for queue in group if _is_rolled(queue)]
    return all_of([queue.submit(Reload()) for queue in queues], "reloaded")


def _is_rolled(queue: Queue) -> bool:
    watcher = queue.watcher
    command = watcher.command
    return watcher.up and (command.options.send_hup or command.runs_side_by_side)


def reload_config(stack: Stack, source: ConfigSource, *, processes: bool = True) -> Ticket:
    """Read the configuration again and change what differs; with `processes`, replace the unchanged ones as well.

    The ticket fails when the configuration is refused, and then nothing has changed; or when a watcher's new processes
    fail, and then its old ones stay.
    """
    enter(os.environ)
    try:
        new = source.read()
        commands = {options.name.lower(): stack.command(options, new) for options in new.watchers}
        change = stack.pool.prepare(new.sockets)
    except ForkserveError as error:
        refused = Ticket()
        log.error("reload refused, everything stays as it is: %s", _in_one_line(error))
        refused.fail(error)
        return refused
    wanted = plan(stack.in_force, new, rebound=change.rebound)
    for warning in new.warnings:
        log.warning("%s", warning)
    retired = change.commit()
    stack.config = new
    logging.getLogger("forkserve").setLevel(new.master.loglevel.upper())
    stack.retire(retired)
    _tell(wanted)
    for warning in mixed_readers(commands.values(), new.sockets):
        log.warning("%s", warning)
    return all_of(_apply(stack, wanted, commands, new, processes=processes), "reloaded")


def _in_one_line(error: ForkserveError) -> str:
    return "; ".join(str(each) for each in error.errors) if isinstance(error, ConfigErrors) else str(error)


def _tell(wanted: Plan) -> None:
    log.info("configuration read again: %s", "nothing has changed" if wanted.is_empty else _summary(wanted))
    for name in wanted.restart:
        log.warning("%s has changed, which needs a restart of forkserve", name)


def _summary(wanted: Plan) -> str:
    parts = [f"{each.name} is new" for each in wanted.added]
    parts += [f"{name} goes" for name in wanted.removed]
    parts += [
        f"{each.options.name} changes ({', '.join(sorted(each.live | each.respawn))})"
        for each in wanted.kept
        if each.live or each.respawn
    ]
    parts += [f"socket {name} is bound anew" for name in sorted(wanted.rebound)]
    return "; ".join(parts) or "only the master's own section differs"


def _apply(stack: Stack, wanted: Plan, commands: dict[str, Command], new: Config, *, processes: bool) -> list[Ticket]:
    tickets = [_remove(stack, name) for name in wanted.removed]
    by_priority = sorted(wanted.kept, key=lambda each: -each.options.priority)
    for each in by_priority:
        tickets += _change(stack.queue(each.options.name), each, commands[each.options.name.lower()], processes)
    for options in sorted(wanted.added, key=lambda each: -each.priority):
        queue = stack.add(commands[options.name.lower()])
        if options.autostart:
            tickets.append(queue.submit(Start()))
    stack.arrange([options.name for options in new.watchers])
    return tickets


def _remove(stack: Stack, name: str) -> Ticket:
    ticket = stack.queue(name).submit(Stop())
    ticket.when_done(lambda _ticket: stack.remove(name))
    return ticket


def _change(queue: Queue, change: Change, command: Command, processes: bool) -> list[Ticket]:
    watcher = queue.watcher
    tickets: list[Ticket] = []
    if "numprocesses" in change.live:
        tickets.append(queue.submit(Resize(command.options.numprocesses)))
    if not watcher.up:
        watcher.adopt(command)
    elif change.respawn:
        tickets.append(queue.submit(Reload(command)))
    else:
        watcher.adopt(command)
        if processes and _is_rolled(queue):
            tickets.append(queue.submit(Reload()))
    return tickets
