"""Takes over a new configuration: plan, prepare, apply.

Rules: everything that can fail comes first, and leaves everything as it was. Only then sockets are swapped and each
watcher gets its own job. HUP also replaces processes whose options have not changed, since their code may have.
"""

from __future__ import annotations

import logging
import os

from forkserve.config.load import ConfigSource
from forkserve.config.model import Config
from forkserve.errors import ConfigErrors, ForkserveError
from forkserve.supervision.command import Command, mixed_readers
from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.events import ConfigRead, ConfigRefused, RestartNeeded, Warned
from forkserve.supervision.jobqueue import JobQueue
from forkserve.supervision.jobs import Reload, Resize, Start
from forkserve.supervision.plan import Change, Plan, plan
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.wording import listed
from forkserve.unix.home import enter

__all__ = ["reload_all", "reload_config"]


def reload_all(supervisor: Supervisor) -> Completion:
    """Replace the processes of every watcher that runs; the answer names the others."""
    queues = [queue for group in supervisor.by_priority() for queue in group]
    stopped = [queue.watcher.name for queue in queues if not queue.watcher.up]
    left_alone = f"; {listed(stopped)} stopped, left alone" if stopped else ""
    return all_of([queue.submit(Reload()) for queue in queues if queue.watcher.up], f"reloaded{left_alone}")


def reload_config(supervisor: Supervisor, source: ConfigSource, *, processes: bool = True) -> Completion:
    """Read the configuration again and change what differs; with `processes`, replace the unchanged ones as well.

    The ticket fails when the configuration is refused, and then nothing has changed; or when a watcher's new processes
    fail, and then its old ones stay.
    """
    enter(os.environ)
    try:
        new = source.read()
        commands = {options.name.lower(): supervisor.command(options, new) for options in new.watchers}
        change = supervisor.pool.prepare(new.sockets)
    except ForkserveError as error:
        refused = Completion()
        supervisor.emit(ConfigRefused(reason=_in_one_line(error)))
        refused.fail(error)
        return refused
    wanted = plan(supervisor.in_force, new, rebound=change.rebound)
    for warning in new.warnings:
        supervisor.emit(Warned(message=warning))
    retired = change.commit()
    supervisor.config = new
    logging.getLogger("forkserve").setLevel(new.master.loglevel.upper())
    supervisor.retire(retired)
    _tell(supervisor, wanted)
    for warning in mixed_readers(commands.values(), new.sockets):
        supervisor.emit(Warned(message=warning))
    return all_of(_apply(supervisor, wanted, commands, new, processes=processes), "reloaded")


def _in_one_line(error: ForkserveError) -> str:
    return "; ".join(str(each) for each in error.errors) if isinstance(error, ConfigErrors) else str(error)


def _tell(supervisor: Supervisor, wanted: Plan) -> None:
    supervisor.emit(ConfigRead(changes=() if wanted.is_empty else _summary(wanted)))
    for name in wanted.restart:
        supervisor.emit(RestartNeeded(option=name))


def _summary(wanted: Plan) -> tuple[str, ...]:
    parts = [f"{each.name} is new" for each in wanted.added]
    parts += [f"{name} goes" for name in wanted.removed]
    parts += [
        f"{each.options.name} changes ({', '.join(sorted(each.live | each.respawn))})"
        for each in wanted.kept
        if each.live or each.respawn
    ]
    parts += [f"socket {name} is rebound" for name in sorted(wanted.rebound)]
    return tuple(parts) or ("only the master's own section differs",)


def _apply(
    supervisor: Supervisor, wanted: Plan, commands: dict[str, Command], new: Config, *, processes: bool
) -> list[Completion]:
    tickets = [supervisor.remove(name) for name in wanted.removed]
    by_priority = sorted(wanted.kept, key=lambda each: -each.options.priority)
    for each in by_priority:
        tickets += _change(supervisor.queue(each.options.name), each, commands[each.options.name.lower()], processes)
    for options in sorted(wanted.added, key=lambda each: -each.priority):
        queue = supervisor.add(commands[options.name.lower()])
        if options.autostart:
            tickets.append(queue.submit(Start()))
    supervisor.arrange([options.name for options in new.watchers])
    return tickets


def _change(queue: JobQueue, change: Change, command: Command, processes: bool) -> list[Completion]:
    watcher = queue.watcher
    target = command.options.numprocesses if "numprocesses" in change.live else None
    if not watcher.up:
        watcher.adopt(command)
        resized = [] if target is None else [queue.submit(Resize(target))]
        return [*resized, queue.submit(Start())] if watcher.paused else resized
    if change.respawn:
        return [queue.submit(Reload(offer=watcher.offer(command), target=target))]
    watcher.adopt(command)
    resized = [] if target is None else [queue.submit(Resize(target))]
    return [*resized, queue.submit(Reload())] if processes else resized
