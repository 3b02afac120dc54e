"""All watchers of one master, each with its queue of operations, and the sockets they share.

Rules: it finds, adds and removes watchers and hands events to them; what is to be done is said by `operations`, when
and why by `master`. `settle` is called once after every event, so that no operation is advanced inside another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from forkserve.config.model import Config, WatcherOptions
from forkserve.config.placeholders import nearest
from forkserve.errors import ControlError
from forkserve.socketpool import SocketPool
from forkserve.supervision.command import Command, prepare
from forkserve.supervision.jobs import Queue
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.process import Process
from forkserve.supervision.snapshot import WatcherState
from forkserve.supervision.spawning import Ground
from forkserve.supervision.watcher import Watcher
from forkserve.unix.listeners import Listener

__all__ = ["Stack"]


class Stack:
    """The watchers by name, without regard to case, in the order of the configuration."""

    def __init__(
        self,
        config: Config,
        pool: SocketPool,
        ground: Ground,
        *,
        inherited: Mapping[str, str],
    ) -> None:
        self.config = config
        self.pool = pool
        self._ground = ground
        self._inherited = inherited
        self._queues: dict[str, Queue] = {}
        self._dirty: dict[str, Watcher] = {}
        self._retired: list[tuple[tuple[Listener, ...], frozenset[int]]] = []
        self.on_settled: Callable[[], None] = lambda: None
        commands = [self.command(options, config) for options in config.watchers]
        for command in commands:
            self.add(command)

    def __iter__(self) -> Iterator[Queue]:
        """Iterate over the queues in the order of the configuration."""
        return iter(tuple(self._queues.values()))

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """All watchers, in the order of the configuration."""
        return tuple(queue.watcher for queue in self)

    @property
    def in_force(self) -> Config:
        """The configuration with the options that the watchers really have: a reload that failed has kept the old."""
        return replace(self.config, watchers=tuple(watcher.options for watcher in self.watchers))

    def queue(self, name: str) -> Queue:
        """Return the queue of one watcher; raises ControlError that names the nearest."""
        try:
            return self._queues[name.lower()]
        except KeyError:
            known = [each.name for each in self.watchers]
            hint = nearest(name, known) or f"; there is {', '.join(known) or 'none'}"
            raise ControlError(f"no watcher {name!r}{hint}") from None

    def by_priority(self) -> list[list[Queue]]:
        """Return the queues in groups of one priority each, highest first."""
        groups: dict[int, list[Queue]] = {}
        for queue in self:
            groups.setdefault(queue.watcher.options.priority, []).append(queue)
        return [groups[priority] for priority in sorted(groups, reverse=True)]

    def command(self, options: WatcherOptions, config: Config) -> Command:
        """Return the command of a watcher within a configuration; raises ConfigError."""
        names = [socket.name for socket in config.sockets]
        return prepare(options, names, inherited=self._inherited)

    def add(self, command: Command) -> Queue:
        """Take in a watcher, stopped."""
        watcher = Watcher(command, self._ground, self.changed)
        queue = self._queues[command.options.name.lower()] = Queue(watcher)
        return queue

    def remove(self, name: str) -> None:
        """Forget a watcher that has stopped."""
        queue = self._queues.pop(name.lower(), None)
        if queue is not None:
            queue.watcher.close()

    def arrange(self, names: Sequence[str]) -> None:
        """Bring the watchers into this order; others follow."""
        first = {name.lower(): self._queues[name.lower()] for name in names}
        self._queues = {**first, **self._queues}

    def find(self, pid: int) -> tuple[Watcher, Process] | None:
        """Return the process of a pid and its watcher, if it is one of ours."""
        for watcher in self.watchers:
            process = watcher.processes.get(pid)
            if process is not None:
                return watcher, process
        return None

    def reaped(self, exits: Sequence[Exit]) -> None:
        """Tell the watchers who has died; strangers, which we have adopted, pass without a word."""
        for each in exits:
            found = self.find(each.pid)
            if found is not None:
                found[0].exited(each)
        for watcher in self.watchers:
            if watcher.leftovers:
                watcher.look_after_leftovers()
        self._close_retired()

    def retire(self, listeners: tuple[Listener, ...]) -> None:
        """Close sockets that are no longer configured, once all who may read from them have gone."""
        names = {listener.name.lower() for listener in listeners}
        reading = (watcher for watcher in self.watchers if names & set(watcher.command.all_sockets))
        readers = frozenset(pid for watcher in reading for pid in watcher.processes)
        self._retired.append((listeners, readers))
        self._close_retired()

    def _close_retired(self) -> None:
        if not self._retired:
            return
        living = {pid for watcher in self.watchers for pid in watcher.processes}
        over = [pair for pair in self._retired if not pair[1] & living]
        self._retired = [pair for pair in self._retired if pair[1] & living]
        for listeners, _readers in over:
            for listener in listeners:
                listener.close()

    def changed(self, watcher: Watcher) -> None:
        """Note that a watcher's operations may go on."""
        if not self._dirty:
            # a timer has no caller that would settle; an instant that has passed is the next thing the loop does
            self._ground.loop.call_at(0.0, self.settle)
        self._dirty[watcher.name.lower()] = watcher

    def settle(self) -> None:
        """Let the operations of all changed watchers go on, until nothing changes any more."""
        if not self._dirty:
            return
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for name in dirty:
                if name in self._queues:
                    self._queues[name].advance()
        self.on_settled()

    @property
    def is_gone(self) -> bool:
        """True when no process of any watcher is left."""
        return all(watcher.is_gone for watcher in self.watchers)

    @property
    def hopeless(self) -> tuple[Watcher, ...]:
        """Return the watchers that should run when all of them have been given up, else nothing."""
        wanted = tuple(watcher for watcher in self.watchers if watcher.up and watcher.state is not WatcherState.STOPPED)
        return wanted if wanted and all(each.state is WatcherState.FATAL for each in wanted) else ()
