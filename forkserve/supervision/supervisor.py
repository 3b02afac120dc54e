"""All watchers of one master, each with its queue of jobs, and the sockets they share.

Rules: it finds, adds and removes watchers and passes events to them; `jobs` decide what is to be done, `master` when
and why. `settle` is called once after every event, so that no job is advanced inside another. A bug in one watcher
affects only that watcher: each step for one of them has a barrier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from forkserve.config.model import Config, WatcherOptions
from forkserve.config.order import groups
from forkserve.errors import ControlError, UnknownNameError
from forkserve.socketpool import SocketPool
from forkserve.suggest import nearest
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import Event, WatcherRemoved
from forkserve.supervision.jobqueue.addressing import meant, places_meant, slot_in
from forkserve.supervision.jobqueue.dependencies import Dependencies
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Stop
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.process import Process
from forkserve.supervision.slots.activation import Activation
from forkserve.supervision.slots.routing import ConnectionRouting
from forkserve.supervision.snapshot import WatcherState
from forkserve.supervision.spawning.command import ProcessTemplate, credentials_of, prepare
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.views import state_of
from forkserve.supervision.watcher import Watcher
from forkserve.unix.privileges import Credentials
from forkserve.wording import count_of

__all__ = ["Supervisor"]

_ROUNDS = 100
"""Rounds of settling at a stretch, far more than any event needs without a bug."""

_PAUSE = 0.05
"""Seconds until settling is resumed if it did not come to an end."""

_STRETCH = 0.01
"""Seconds after which a callback settles no other watcher; then signals and control have their turn."""


class Supervisor:
    """The watchers by name, case-insensitive, in the order of the configuration."""

    def __init__(
        self,
        config: Config,
        pool: SocketPool,
        services: SpawnServices,
        *,
        inherited: Mapping[str, str],
    ) -> None:
        self.config = config
        self.pool = pool
        self._services = services
        self.inherited = inherited
        self._queues: dict[str, JobQueue] = {}
        self._ordered: tuple[Watcher, ...] | None = None
        self._dirty: dict[str, Watcher] = {}
        self.dependencies = Dependencies(self._queues, services.emit)
        self._activation = Activation(pool, services.loop)
        self._routing = ConnectionRouting(pool, lambda: self.watchers)
        self.on_settled: Callable[[], None] = lambda: None
        commands = [self.command(options, config, pool.numbers, credentials_of(options)) for options in config.watchers]
        for command in commands:
            self.add(command)

    def __iter__(self) -> Iterator[JobQueue]:
        """Iterate over the queues in the order of the configuration."""
        return iter(tuple(self._queues.values()))

    def emit(self, event: Event) -> None:
        """Emit an event."""
        self._services.emit(event)

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """All watchers, in the order of the configuration."""
        if self._ordered is None:
            self._ordered = tuple(queue.watcher for queue in self)
        return self._ordered

    def find(self, name: str) -> Watcher | None:
        """Return the watcher of a name, or None."""
        queue = self._queues.get(name.lower())
        return None if queue is None else queue.watcher

    @property
    def in_force(self) -> Config:
        """The configuration with the options that the watchers really have: a failed reload has kept the old ones."""
        staying = tuple(watcher.options for watcher in self.watchers if not (watcher.leaving or watcher.transient))
        return replace(self.config, watchers=staying)

    def queue(self, name: str) -> JobQueue:
        """Return the queue of one watcher; raises ControlError that names the nearest."""
        found = self.queues_named(name)
        if len(found) > 1:
            raise ControlError(f"{name!r} names {len(found)} watchers: name one of them")
        return found[0]

    def place(self, name: str) -> tuple[JobQueue, int | None]:
        """Return the queue of a watcher, and the slot if the name is that of a process; raises ControlError."""
        return self.slot_named(name) or (self.queue(name), None)

    def slot_named(self, name: str) -> tuple[JobQueue, int] | None:
        """Return the queue and the slot of a process: `web[3]`, `web:web_03`; None if the name means no process.

        Raises ControlError for a name of several.
        """
        if name.lower() in self._queues:
            return None
        if (slot := slot_in(name)) is not None:
            return self.queue(slot[0]), slot[1]
        if not self._meant(name):
            found = places_meant(name, ((each.options, max(each.target, *each.slots, 1)) for each in self.watchers))
            if len(found) == 1:
                return self.queue(found[0][0]), found[0][1]
            if found:
                listed = ", ".join(f"{watcher}:{name}" for watcher, _ in found)
                raise ControlError(f"{name!r} names {len(found)} processes: {listed}")
        return None

    def _meant(self, name: str) -> tuple[str, ...]:
        return meant(name, {key: queue.watcher.options.group or "" for key, queue in self._queues.items()})

    def queues_named(self, name: str) -> list[JobQueue]:
        """Return the queues of NAME, GROUP:NAME or GROUP:*; raises UnknownNameError that names the nearest."""
        try:
            return [self._queues[name.lower()]]
        except KeyError:
            found = self._meant(name)
            if found:
                return [self._queues[key] for key in found]
            known = [each.name for each in self.watchers]
            hint = self._hint(name) or nearest(name, known) or f"; there is {', '.join(known) or 'none'}"
            raise UnknownNameError(f"no watcher {name!r}{hint}", "no-such-watcher") from None

    def _hint(self, name: str) -> str:
        """Return what to type for the name of a group, or for a process as supervisord names it."""
        first = name.partition(":")[0].lower()
        if any((queue.watcher.options.group or "").lower() == first for queue in self):
            return f"; {first} is a group: {first}:* names all of it"
        of = self._queues.get(first)
        if of is None:
            return ""
        return f"; {of.watcher.name} is one watcher: name it alone, or a process: {of.watcher.name}[1]"

    def in_order(self) -> list[list[JobQueue]]:
        """Return the queues in groups that start together, by dependency and by priority."""
        priorities = {name: queue.watcher.options.priority for name, queue in self._queues.items()}
        return [[self._queues[name] for name in names] for names in groups(priorities, self.dependencies.after())]

    def command(
        self, options: WatcherOptions, config: Config, numbers: Mapping[str, int], credentials: Credentials | None
    ) -> ProcessTemplate:
        """Return the command of a watcher, with the queues of its sockets; raises ConfigError."""
        by_name = {socket.name: numbers[socket.name.lower()] for socket in config.sockets}
        return prepare(options, by_name, inherited=self.inherited, credentials=credentials)

    def add(self, command: ProcessTemplate) -> JobQueue:
        """Add a watcher, stopped; if one of this name is leaving, it is kept, with the new command."""
        name = command.options.name.lower()
        queue = self._queues.get(name)
        if queue is not None:
            queue.watcher.leaving = False
            queue.watcher.adopt(command)
            queue.watcher.target = command.options.numprocesses
            return queue
        watcher = Watcher(command, self._services, self.changed)
        watcher.awaited = partial(self.dependencies.awaited_by, watcher)
        queue = self._queues[name] = JobQueue(watcher)
        self._ordered = None
        return queue

    def remove(self, name: str) -> Completion:
        """Stop a watcher in an orderly way, and forget it when it is gone."""
        queue = self.queue(name)
        queue.watcher.leaving = True
        return queue.submit(Stop())

    def forget(self, name: str) -> str:
        """Remove a watcher at once, and leave its processes running; returns what was done."""
        queue = self.queue(name)
        watcher = queue.watcher
        queue.give_up("rm")
        watcher.up = watcher.awaits_start = False
        count = watcher.population.abandon()
        watcher.close()
        self._drop(watcher.name.lower())
        staying = tuple(each for each in self.config.watchers if each.name.lower() != watcher.name.lower())
        self.config = replace(self.config, watchers=staying)
        self.emit(WatcherRemoved(watcher=watcher.name))
        return f"{watcher.name}: removed, {count_of(count)} left alone"

    def arrange(self, names: Sequence[str]) -> None:
        """Put the watchers into this order; others follow."""
        first = {name.lower(): self._queues[name.lower()] for name in names}
        ordered = {**first, **self._queues}
        self._queues.clear()  # others hold the same dictionary
        self._queues.update(ordered)
        self._ordered = None

    def _drop(self, key: str) -> None:
        del self._queues[key]
        self._ordered = None

    def processes(self) -> list[Process]:
        """Return all processes that have not been reaped."""
        return [process for watcher in self.watchers for process in watcher.processes if process.is_alive]

    @property
    def living(self) -> frozenset[int]:
        """The pids of all processes that have not been reaped."""
        return frozenset(pid for watcher in self.watchers for pid in watcher.processes.pids)

    def reaped(self, exits: Sequence[Exit]) -> None:
        """Tell the watchers which process has exited; adopted strangers pass silently.

        All exits are recorded before one is acted on: the kernel reports each only once.
        """
        pids = frozenset(each.pid for each in exits)
        for watcher in (each for each in self.watchers if each.population.zygotes.states):
            with self._barrier(f"the zygotes of {watcher.name}"):
                watcher.population.zygotes.hear(pids)
        concerned = [watcher for watcher in self.watchers if watcher.knows(pids)]
        found: list[tuple[Watcher, Process]] = []
        for each in exits:
            pid = frozenset((each.pid,))
            for watcher in (each for each in concerned if each.knows(pid)):
                with self._barrier(f"the end of pid {each.pid}"):
                    if (process := watcher.record(each)) is not None:
                        found.append((watcher, process))
        for watcher, process in found:
            watcher.handle_exit(process)
        self.forget_ended_groups()

    def forget_ended_groups(self) -> bool:
        """Forget the process groups that have ended; True while there are others."""
        left = [each for each in self.watchers if each.processes.groups]
        for watcher in left:
            with self._barrier(f"what {watcher.name} has left"):
                watcher.forget_ended_groups()
        return any(each.processes.groups for each in left)

    def _barrier(self, where: str) -> Barrier:
        return Barrier(self._services.emit, where)

    def changed(self, watcher: Watcher) -> None:
        """Note that a watcher's jobs may continue, and that its deadlines may have changed."""
        if not self._dirty:
            # a timer has no caller that would settle; an instant that has passed is the next thing the loop does
            self._services.loop.call_at(0.0, self.settle)
        self._dirty[watcher.name.lower()] = watcher

    def settle(self) -> None:
        """Advance the jobs of all changed watchers until nothing changes any more; bounded, the rest follows later."""
        if not self._dirty:
            return
        self._settle_changed()
        self._forget_gone()
        with self._barrier("the queues of slots"):
            self._routing.reroute()
        with self._barrier("the sockets of watchers that wait"):
            self._activation.update_watched()
        self.on_settled()

    def _settle_changed(self) -> None:
        loop = self._services.loop
        enough = loop.began + _STRETCH
        for _ in range(_ROUNDS):
            dirty, self._dirty = self._dirty, {}
            while dirty:
                self._settle(dirty.pop(next(iter(dirty))))
                if dirty and loop.now() > enough:
                    self._dirty = {**dirty, **self._dirty}
                    loop.call_later(0.0, self.settle)
                    return
            if not self._dirty:
                return
        loop.call_later(_PAUSE, self.settle)

    def _settle(self, watcher: Watcher) -> None:
        queue = self._queues.get(watcher.name.lower())
        if queue is not None and queue.watcher is watcher:
            with self._barrier(f"the hooks of {watcher.name}"):
                watcher.advance_gate()
            with self._barrier(f"the runs of {watcher.name}"):
                watcher.timer.settle()
            with self._barrier(f"the jobs of {watcher.name}"):
                queue.advance()
            with self._barrier(f"the deadlines of {watcher.name}"):
                watcher.arm()
            self._activation.note(watcher)
            with self._barrier(f"what comes after {watcher.name}"):
                for each in self.dependencies.settled(watcher):
                    self.changed(each)

    def _forget_gone(self) -> None:
        for queue in [each for each in self._queues.values() if each.watcher.leaving]:
            watcher = queue.watcher
            if not watcher.up and watcher.is_gone and queue.is_idle:
                self._drop(watcher.name.lower())
                with self._barrier(f"the removal of {watcher.name}"):
                    watcher.close()
                self.emit(WatcherRemoved(watcher=watcher.name))

    @property
    def is_gone(self) -> bool:
        """True when no process of any watcher is left."""
        return all(watcher.is_gone for watcher in self.watchers)

    @property
    def hopeless(self) -> tuple[Watcher, ...]:
        """Return the watchers that should run if all of them are FATAL, else nothing.

        One that is paused, or that a job has stopped to start it again, is still to run.
        """
        wanted: list[Watcher] = []
        for queue in self._queues.values():
            watcher = queue.watcher
            if not watcher.up:
                if watcher.paused or queue.brings_up:
                    return ()
                continue
            state = state_of(watcher)
            if state is WatcherState.FATAL:
                wanted.append(watcher)
            elif state is not WatcherState.STOPPED:  # one is enough, and this is asked after every event
                return ()
        return tuple(wanted)
