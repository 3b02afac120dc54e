"""One change of the configuration as data: its goal, and for each watcher what it goes back to.

Rules: `plan_change` changes nothing except that it binds new sockets; the others submit jobs, and wait for none.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from forkserve.config.model import Config
from forkserve.config.options import differing
from forkserve.errors import ControlError
from forkserve.socketpool import SocketChange
from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.events import Event, WatcherAdded, WatcherUpdated
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobqueue.turns import Act
from forkserve.supervision.jobs.advance import Reload, Resize, Start, Stop
from forkserve.supervision.reload.plan import Plan, WatcherChange, plan
from forkserve.supervision.reload.preparation import Preparation
from forkserve.supervision.reload.requests import ChangeRequest
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = [
    "ChangePhase",
    "ChangeProgress",
    "ConfigChange",
    "Stand",
    "Undo",
    "acts_back",
    "acts_for",
    "differences",
    "insist",
    "plan_change",
    "summary",
    "target_given",
    "target_left",
]


@dataclass(frozen=True, slots=True)
class Undo:
    """A watcher before a change: its command, number of processes, whether it ran, whether it was removed."""

    name: str
    command: ProcessTemplate
    target: int
    up: bool
    removed: bool = False
    replaced: bool = False
    """Whether its processes get the new options by a reload, not at once."""


@dataclass(frozen=True, slots=True)
class Stand:
    """The state of a watcher before a change: whether it served, and its count of failures."""

    served: bool = False
    failures: int = 0


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One change in progress: its origin and goal, and everything needed to take it back."""

    old: Config
    new: Config
    sockets: SocketChange
    undo: tuple[Undo, ...] = ()
    added: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    """Watchers that are stopped once the others are through: their sockets must be read until then."""
    stood: Mapping[str, Stand] = field(default_factory=dict)
    """By lower-case name; a missing one is new."""

    def stand(self, name: str) -> Stand:
        """Return the state of a watcher before."""
        return self.stood.get(name.lower(), Stand())

    def has_veto(self, name: str) -> bool:
        """Tell whether the change is taken back if a watcher fails: it is new, or is changed and served before.

        A watcher that the change does not touch fails alone, and one that did not serve has nothing to lose.
        """
        return name in self.added or (self.stand(name).served and any(each.name == name for each in self.undo))

    def before(self, name: str) -> Undo | None:
        """Return what a watcher goes back to, None for an unchanged one."""
        return next((each for each in self.undo if each.name.lower() == name.lower()), None)


class ChangePhase(Enum):
    """The progress of a change."""

    IDLE = "idle"
    READING = "reading"
    APPLYING = "applying"
    DRAINING = "draining"
    REMOVING = "removing"
    TAKING_BACK = "taking back"


@dataclass(slots=True)
class ChangeProgress:
    """The progress of a change that was `asked` for.

    `tickets` are the jobs it waits for, by watcher, and `leftovers` those of a change that is taken back. `why` is what
    has failed; `insisted` means that what could not be restored was stopped and started.
    """

    phase: ChangePhase = ChangePhase.IDLE
    asked: ChangeRequest = field(default_factory=ChangeRequest)
    change: ConfigChange | None = None
    commands: Mapping[str, ProcessTemplate] = field(default_factory=dict)
    tickets: dict[str, Completion] = field(default_factory=dict)
    leftovers: dict[str, Completion] = field(default_factory=dict)
    why: str = ""
    insisted: bool = False


def plan_change(
    supervisor: Supervisor, prepared: Preparation, may_replace: bool
) -> tuple[ConfigChange, Plan, dict[str, ProcessTemplate]]:
    """Bind what is new and compare the rest; raises ForkserveError with nothing changed.

    Without `may_replace` a change that would replace running processes is refused.
    """
    new = prepared.config
    sockets = supervisor.pool.prepare(new.sockets, prepared.targets)
    try:
        wanted = plan(supervisor.in_force, new, sockets.rebound)
        if not may_replace:
            _refuse_to_replace(supervisor, wanted)
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
        stood={each.name.lower(): Stand(_serves(each), each.population.failures.count) for each in supervisor.watchers},
        leaving=tuple(name for name in wanted.removed if supervisor.queue(name).watcher.command.all_sockets),
    )
    return change, wanted, commands


def _refuse_to_replace(supervisor: Supervisor, wanted: Plan) -> None:
    for each in wanted.kept:
        if each.respawn and supervisor.queue(each.options.name).watcher.up:
            what = ", ".join(sorted(each.respawn))
            error = ControlError(
                f"{each.options.name}: {what} takes new processes; ask for a reload as well (--reload)"
            )
            error.code = "needs-reload"
            raise error


def differences(wanted: Plan) -> list[Event]:
    """Return the events for a plan: watchers that are new, and those with other options."""
    changed = [each.options.name for each in wanted.kept if each.live or each.respawn]
    return [
        *(WatcherAdded(watcher=each.name) for each in wanted.added),
        *(WatcherUpdated(watcher=name) for name in changed),
    ]


def _serves(watcher: Watcher) -> bool:
    """Tell whether a watcher has something to lose: a process that is ready, or one that starts where none has
    failed.
    """
    if any(process.is_ready for process in watcher.processes.workers):
        return True
    slots = watcher.slots.values()
    return any(slot.occupant is not None for slot in slots) and not any(slot.tally.failed for slot in slots)


def _undo(supervisor: Supervisor, wanted: Plan) -> Iterator[Undo]:
    for each in wanted.kept:
        if each.live or each.respawn:
            yield _before(supervisor, each.options.name, replaced=bool(each.respawn))
    for name in wanted.removed:
        yield _before(supervisor, name, removed=True)


def _before(supervisor: Supervisor, name: str, *, removed: bool = False, replaced: bool = False) -> Undo:
    watcher = supervisor.queue(name).watcher
    return Undo(name, watcher.command, watcher.target, watcher.up, removed, replaced)


def acts_for(
    supervisor: Supervisor,
    change: ConfigChange,
    wanted: Plan,
    commands: Mapping[str, ProcessTemplate],
    asked: ChangeRequest,
) -> list[Act]:
    """Return what each watcher does for a change; new watchers are added, and everything else is left to the acts."""
    acts: list[Act] = [
        (name, supervisor.queue(name), partial(supervisor.remove, name))
        for name in wanted.removed
        if name not in change.leaving
    ]
    for each in sorted(wanted.kept, key=lambda each: -each.options.priority):
        queue, command = supervisor.queue(each.options.name), commands[each.options.name.lower()]
        acts.append(
            (each.options.name, queue, partial(change_watcher, queue, each, command, processes=asked.processes))
        )
    for options in sorted(wanted.added, key=lambda each: -each.priority):
        queue = supervisor.add(commands[options.name.lower()])
        if options.autostart and asked.starts:
            acts.append((options.name, queue, partial(queue.submit, Start())))
    return acts


def change_watcher(
    queue: JobQueue, change: WatcherChange, command: ProcessTemplate, *, processes: bool
) -> Completion | None:
    """Give a watcher its new options, and replace its processes if they need it; None if it is done already."""
    watcher = queue.watcher
    target = command.options.numprocesses if "numprocesses" in change.live else None
    if command.options.singleton and watcher.target > 1:  # `incr` may have asked for more than the file did
        target = min(command.options.numprocesses, 1)
    if watcher.up and change.respawn:
        return queue.submit(Reload(offer=watcher.offer(command), target=target))
    watcher.adopt(command)
    completions = [] if target is None else [queue.submit(Resize(target))]
    if watcher.paused and watcher.resumes:
        completions.append(queue.submit(Start()))
    elif watcher.up and processes:
        completions.append(queue.submit(Reload()))
    return all_of(completions, "") if completions else None


def target_given(undo: Undo, command: ProcessTemplate) -> int:
    """Return how many processes a change gives a watcher: as many as it had, unless the configuration has another
    number.
    """
    before, after = undo.command.options, command.options
    if before.numprocesses != after.numprocesses:
        return after.numprocesses
    return min(undo.target, 1) if after.singleton else undo.target


def target_left(watcher: Watcher, undo: Undo, given: int, *, back: bool) -> int:
    """Return how many processes a watcher keeps after a change, or with `back` after one that is taken back.

    A number that is neither the former one nor the one `given` by the change was requested meanwhile, and stays.
    """
    if watcher.target not in (undo.target, given):
        return watcher.target
    return undo.target if back else given


def acts_back(
    supervisor: Supervisor,
    change: ConfigChange,
    given: Callable[[Undo], int],
    *,
    failed: Container[str],
    untouched: Container[str],
) -> list[Act]:
    """Return what each watcher does to go back; `untouched` are the lower-case names of those whose
    turn in the change had not come.
    """
    acts: list[Act] = [(name, supervisor.queue(name), partial(supervisor.remove, name)) for name in change.added]
    for undo in change.undo:
        if undo.removed:
            supervisor.add(undo.command)
        elif undo.name.lower() in untouched:
            continue
        back = partial(put_back, supervisor, undo, given(undo), has_failed=undo.name in failed)
        acts.append((undo.name, supervisor.queue(undo.name), back))
    return acts


def put_back(supervisor: Supervisor, undo: Undo, given: int, *, has_failed: bool) -> Completion | None:
    """Give a watcher its old options and processes; one that `has_failed` has restored its own processes.

    `given` is the number of processes that the change has given it.
    """
    if undo.removed:
        queue = supervisor.add(undo.command)
        queue.watcher.target = undo.target
        return queue.submit(Start()) if undo.up and not queue.watcher.up else None
    queue = supervisor.queue(undo.name)
    watcher = queue.watcher
    target = target_left(watcher, undo, given, back=True)
    # one that has failed has put its processes back itself, if it could
    if undo.replaced and watcher.up and (not has_failed or _is_mixed(watcher)):
        return queue.submit(Reload(offer=watcher.offer(undo.command), target=target))
    watcher.adopt(undo.command)
    return queue.submit(Resize(target)) if watcher.target != target else None


def _is_mixed(watcher: Watcher) -> bool:
    processes = (slot.occupant for slot in watcher.slots.values())
    return any(each is not None and each.generation != watcher.generation for each in processes)


def insist(queue: JobQueue, command: ProcessTemplate, target: int) -> Completion | None:
    """Make a watcher run a command after replacing its processes has failed: stop them all, and start it by its rules.

    The completion is done when they are stopped; None if there is nothing to stop.
    """
    watcher = queue.watcher
    was_up = watcher.up
    watcher.adopt(command)
    watcher.target = target
    if not was_up:
        return None
    stopped = queue.submit(Stop())
    queue.submit(Start())
    return stopped


def summary(wanted: Plan, change: ConfigChange) -> tuple[str, ...]:
    """Return a summary of a change, one part for each difference; empty if there is none."""
    sockets = change.sockets
    parts = [f"{each.name} is new" for each in wanted.added]
    parts += [f"{name} goes" for name in wanted.removed]
    parts += [
        f"{each.options.name} changes ({', '.join(sorted(each.live | each.respawn))})"
        for each in wanted.kept
        if each.live or each.respawn
    ]
    parts += [f"socket {name} is {_how(name, sockets)}" for name in sorted(sockets.rebound)]
    parts += [f"socket {name} goes" for name in _gone(sockets)]
    parts += [f"socket {name} changes ({', '.join(options)})" for name, options in sorted(sockets.adjusted.items())]
    of_master = differing(change.old.master, change.new.master)
    return (*parts, *([f"the master's own section changes ({', '.join(of_master)})"] if of_master else []))


def _gone(sockets: SocketChange) -> list[str]:
    """Return the names that no socket has any more; a renamed socket is listed under its new name."""
    return sorted(
        name for name, number in sockets.before.items() if name not in sockets.after and number in sockets.retired
    )


def _how(name: str, sockets: SocketChange) -> str:
    if sockets.after[name] in sockets.before.values():
        return "renamed, with its queue"
    return "rebound" if name in sockets.before else "new"
