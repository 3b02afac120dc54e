"""One change of the configuration as data: what it leads to, and for each watcher what it goes back to.

Rules: `plan_change` changes nothing but that it binds new sockets; the others submit jobs, and wait for none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forkserve.config.model import Config
from forkserve.socketpool import SocketChange
from forkserve.supervision.command import ProcessTemplate
from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.jobqueue import JobQueue
from forkserve.supervision.jobs import Reload, Resize, Start
from forkserve.supervision.plan import Plan, WatcherChange, plan
from forkserve.supervision.preparation import Preparation
from forkserve.supervision.supervisor import Supervisor

__all__ = ["ConfigChange", "Undo", "change_watcher", "plan_change", "put_back", "summary"]


@dataclass(frozen=True, slots=True)
class Undo:
    """How a watcher was before a change: its command, number of processes, whether it ran, whether it was removed."""

    name: str
    command: ProcessTemplate
    target: int
    up: bool
    removed: bool = False
    replaced: bool = False
    """Whether its processes get the new options by a reload, not at once."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One change under way: what it leads from and to, and all there is to know for taking it back."""

    old: Config
    new: Config
    sockets: SocketChange
    undo: tuple[Undo, ...] = ()
    added: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    """Watchers that are stopped once the others are through: somebody reads from their sockets until then."""
    warnings: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to take back: the same options, and only their code is run again."""
        return not (self.undo or self.added) and self.sockets.is_empty and self.old.sockets == self.new.sockets


def plan_change(supervisor: Supervisor, prepared: Preparation) -> tuple[ConfigChange, Plan, dict[str, ProcessTemplate]]:
    """Bind what is new and compare the rest; raises ForkserveError with nothing changed."""
    new = prepared.config
    sockets = supervisor.pool.prepare(new.sockets, prepared.targets)
    try:
        wanted = plan(supervisor.in_force, new, sockets.rebound)
        commands = {
            options.name.lower(): supervisor.command(
                options, new, sockets.after, prepared.credentials[options.name.lower()]
            )
            for options in new.watchers
        }
    except BaseException:
        supervisor.pool.abandon(sockets)
        raise
    change = ConfigChange(
        old=supervisor.config,
        new=new,
        sockets=sockets,
        undo=tuple(_undo(supervisor, wanted)),
        added=tuple(each.name for each in wanted.added),
        leaving=tuple(name for name in wanted.removed if supervisor.queue(name).watcher.command.all_sockets),
    )
    return change, wanted, commands


def _undo(supervisor: Supervisor, wanted: Plan) -> Iterator[Undo]:
    for each in wanted.kept:
        if each.live or each.respawn:
            yield _before(supervisor, each.options.name, replaced=bool(each.respawn))
    for name in wanted.removed:
        yield _before(supervisor, name, removed=True)


def _before(supervisor: Supervisor, name: str, *, removed: bool = False, replaced: bool = False) -> Undo:
    watcher = supervisor.queue(name).watcher
    return Undo(name, watcher.command, watcher.target, watcher.up, removed, replaced)


def change_watcher(
    queue: JobQueue, change: WatcherChange, command: ProcessTemplate, *, processes: bool
) -> Completion | None:
    """Give a watcher its new options, and replace its processes where that takes it; None when it is done."""
    watcher = queue.watcher
    target = command.options.numprocesses if "numprocesses" in change.live else None
    if watcher.up and change.respawn:
        return queue.submit(Reload(offer=watcher.offer(command), target=target))
    watcher.adopt(command)
    completions = [] if target is None else [queue.submit(Resize(target))]
    if watcher.paused:
        completions.append(queue.submit(Start()))
    elif watcher.up and processes:
        completions.append(queue.submit(Reload()))
    return all_of(completions, "") if completions else None


def put_back(supervisor: Supervisor, undo: Undo, *, has_failed: bool) -> Completion | None:
    """Give a watcher its old options and processes; one that `has_failed` has put its own processes back."""
    if undo.removed:
        queue = supervisor.add(undo.command)
        queue.watcher.target = undo.target
        return queue.submit(Start()) if undo.up and not queue.watcher.up else None
    queue = supervisor.queue(undo.name)
    watcher = queue.watcher
    if undo.replaced and watcher.up and not has_failed:
        return queue.submit(Reload(offer=watcher.offer(undo.command), target=undo.target))
    watcher.adopt(undo.command)
    return queue.submit(Resize(undo.target)) if watcher.target != undo.target else None


def summary(wanted: Plan, sockets: SocketChange) -> tuple[str, ...]:
    """Return what a change is about, a part for each difference."""
    parts = [f"{each.name} is new" for each in wanted.added]
    parts += [f"{name} goes" for name in wanted.removed]
    parts += [
        f"{each.options.name} changes ({', '.join(sorted(each.live | each.respawn))})"
        for each in wanted.kept
        if each.live or each.respawn
    ]
    parts += [f"socket {name} is {_how(name, sockets)}" for name in sorted(sockets.rebound)]
    return tuple(parts) or ("only the master's own section differs",)


def _how(name: str, sockets: SocketChange) -> str:
    if sockets.after[name] in sockets.before.values():
        return "renamed, with its queue"
    return "rebound" if name in sockets.before else "new"
