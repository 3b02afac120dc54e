"""A world for supervision without processes: a loop whose clock the test sets, and a kernel that hands out numbers.

Nothing happens by itself. A process that was forked waits until the test lets its program run, speak or die, and a
signal has the effect that the test has chosen for it. The kernel keeps account of what must never be asked of it.
"""

from __future__ import annotations

import errno
import itertools
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from forkserve.config.load import LineSource
from forkserve.config.model import Config, WatcherOptions
from forkserve.errors import ConfigError
from forkserve.socketpool import SocketPool
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import BugCaught, Event
from forkserve.supervision.hooks.call import CallHook, consent
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Job
from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import Spawned, SpawnError, SpawnRefusal, SpawnSpec, SpawnStage
from forkserve.supervision.process import Process
from forkserve.supervision.reload.preparation import Preparation
from forkserve.supervision.reload.reloader import Reloader
from forkserve.supervision.repair import Repairs
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.state.change import reloader_from_data, reloader_to_data
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.state.watchers import from_data, to_data
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher
from forkserve.unix.notify import Message, NotifySocket

__all__ = ["Child", "FakeKernel", "FakeReloader", "ManualLoop", "World", "options"]


class ManualLoop(Loop):
    """Timers fire when the test moves the clock; descriptors are numbers, ready when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.clock = now
        self.since: float | None = None
        """When the current callback began; None for an instant ago."""
        self.watched: dict[int, Callable[[int], None]] = {}
        self.appointments: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self.on_bug = lambda: None

    def now(self) -> float:
        return self.clock

    @property
    def began(self) -> float:
        return self.clock if self.since is None else self.since

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        self.watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def call_at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(deadline, callback)
        self.appointments.append((deadline, next(self._numbers), timer))
        return timer

    def ready(self, fd: int) -> None:
        """Serve a descriptor that has become ready, and what follows at once."""
        if fd in self.watched:
            self.watched[fd](1)
        self.serve()

    def serve(self) -> None:
        """Fire what is due, until nothing is."""
        for _ in range(10_000):
            self.appointments = [each for each in self.appointments if each[2].callback is not None]
            due = min((each for each in self.appointments if each[0] <= self.clock), default=None)
            if due is None:
                return
            self.appointments.remove(due)
            if due[2].callback is not None:
                due[2].callback()
        raise AssertionError("timers without end at one instant")

    def following(self, end: float) -> float:
        """Return the next deadline, or `end` when there is none before."""
        return min((each[0] for each in self.appointments if each[2].callback is not None), default=end)


@dataclass
class Child:
    """One process as the kernel sees it. `obeys` tells whether it ends by its stop signal, `others` is its group."""

    pid: int
    argv: tuple[str, ...]
    report: int
    rehearse: bool = False
    outcome: SpawnRefusal | bool = False
    obeys: bool = True
    ended: Exit | None = None
    reaped: bool = False
    others: int = 0
    group_gone: bool = False

    @property
    def runs(self) -> bool:
        return self.outcome is True and self.ended is None


class FakeKernel(Kernel):
    """Numbers instead of processes; `faults` are requests that a kernel must never get."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = "/srv/releases/1"
        """Where the next children are."""
        self.children: dict[int, Child] = {}
        self.faults: list[str] = []
        self.short_of: int = 0
        """An errno that the next forks fail with."""
        self.spare = 1.0
        """Share of the memory that is free."""
        self._pids = itertools.count(100)
        self._fds = itertools.count(10_000)
        self._reports: dict[int, Child] = {}

    def fork(self, spec: SpawnSpec, *, rehearse: bool = False) -> Spawned:
        if self.short_of:
            raise SpawnError(self.short_of, SpawnStage.FORK, "cannot fork: short of something")
        pid, report = next(self._pids), next(self._fds)
        self.children[pid] = self._reports[report] = Child(pid, spec.argv, report, rehearse)
        if spec.tells_folder:
            self._folders[report] = spec.cwd or self.folder
        return Spawned(pid, report)

    def outcome(self, report: int) -> SpawnRefusal | bool:
        return self._reports[report].outcome

    def close(self, report: int) -> None:
        del self._reports[report]

    def spare_memory(self) -> float:
        return self.spare

    def is_child(self, pid: int) -> bool:
        return pid in self.children and not self.children[pid].reaped

    def signal(self, pid: int, signum: int) -> None:
        child = self.children[pid]
        if child.reaped:
            self.faults.append(f"signal {signum} to the reaped {pid}")
        self._deliver(child, signum)

    def signal_group(self, pgid: int, signum: int) -> bool:
        child = self.children[pgid]
        if child.reaped and not child.others:
            if child.group_gone and signum:
                self.faults.append(f"signal {signum} to the group {pgid} that has gone")
            child.group_gone = True
            return False
        self._deliver(child, signum)
        if signum == signal.SIGKILL:
            child.others = 0
        return True

    def _deliver(self, child: Child, signum: int) -> None:
        if child.ended is not None or signum in (0, signal.SIGCONT):
            return
        if signum == signal.SIGKILL or child.obeys:
            self.end(child, signum=signum)

    def end(self, child: Child, *, code: int | None = None, signum: int | None = None) -> None:
        """Have a process end; it is a zombie until it is reaped."""
        if child.ended is None:
            child.ended = Exit(child.pid, code, signum)
            if child.outcome is False:  # the pipe closes with it
                child.outcome = True

    def refuse(self, child: Child, number: int = errno.ENOENT) -> None:
        """Have exec fail, and the child end of it."""
        child.outcome = SpawnRefusal(number, SpawnStage.EXECUTE, f"cannot execute {child.argv[0]!r}")
        self.end(child, code=127)

    def reap(self) -> list[Exit]:
        """Return the exits of the zombies, as waitpid(2) does: once."""
        zombies = [each for each in self.children.values() if each.ended is not None and not each.reaped]
        for each in zombies:
            each.reaped = True
        return [each.ended for each in zombies if each.ended is not None]

    @property
    def living(self) -> list[Child]:
        """All that have not been reaped, in order of pid."""
        return [each for each in self.children.values() if not each.reaped]


class FakeNotify(NotifySocket):
    """Messages that the test has put there."""

    def __init__(self, fd: int) -> None:
        self.address = f"@{fd}"
        self.number = fd
        self.messages: list[dict[str, str]] = []

    def fileno(self) -> int:
        return self.number

    def take(self) -> Iterator[Message]:
        taken, self.messages = self.messages, []
        return iter([Message(each, []) for each in taken])

    def close(self) -> None:
        """Nothing is open."""


class FakeReloader(Reloader):
    """Reads when the test says so."""

    def read(self) -> None:
        """Wait for the test, which calls `take`."""


def options(name: str = "web", **more: object) -> WatcherOptions:
    """Return the options of a watcher that is quick and exact."""
    given: dict[str, object] = {"cmd": "prog", "ready_after": 1.0, "graceful_timeout": 10.0, "max_age_variance": 0.0}
    return WatcherOptions(name=name, **{**given, **more})  # type: ignore[arg-type]


@dataclass
class World:
    """A supervisor on a manual loop and a kernel of numbers, and all that it has stated."""

    watchers: tuple[WatcherOptions, ...] = ()
    loop: ManualLoop = field(default_factory=ManualLoop)
    kernel: FakeKernel = field(default_factory=FakeKernel)
    events: list[Event] = field(default_factory=list)
    wall_ahead: float = 0.0
    """Seconds by which the time of day is ahead of the loop's clock."""
    call_hook: CallHook = consent

    def __post_init__(self) -> None:
        self.notifies: dict[int, FakeNotify] = {}
        self._fds = itertools.count(50_000)
        self._stand(Config(watchers=self.watchers), self.services())

    def _stand(self, config: Config, services: SpawnServices) -> None:
        self.supervisor = Supervisor(config, SocketPool(()), services, inherited={})
        self.reloader = FakeReloader(self.supervisor, LineSource(()), self.loop)
        self.supervisor.on_settled = self.reloader.advance
        self.repairs = Repairs(self.supervisor, self.loop, self._reap)
        self.loop.on_bug = self.repairs.begin
        services.hold = self.reloader.hold

    def written(self) -> str:
        """Return the whole state as text."""
        completions = CompletionWriter()
        state = to_data(self.supervisor, completions)
        reload = reloader_to_data(self.reloader, completions)
        return json.dumps([state, reload, completions.data])

    def read(self, text: str) -> None:
        """Go on with the state of a text, on another loop, as if nothing had been before."""
        state, reload, data = json.loads(text)
        completions = CompletionReader(data)
        self.loop = ManualLoop(self.loop.clock)
        services = self.services()
        self._stand(Config(), services)
        from_data(state, self.supervisor, completions, services)
        reloader_from_data(reload, self.reloader, completions, inherited={})

    def services(self) -> SpawnServices:
        """Return what watchers stand on, here."""
        return SpawnServices(
            self.loop,
            lambda names: dict.fromkeys(names, 0),
            emit=self._emit,
            reports=lambda _command: self._notify(),
            restore_notify=lambda fd, _address: self.notifies[fd],
            kernel=self.kernel,
            random=lambda: 0.5,
            call_hook=self.call_hook,
            wall=lambda: self.loop.clock + self.wall_ahead,
        )

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.repairs.on_event(event)

    def _notify(self) -> FakeNotify:
        made = FakeNotify(next(self._fds))
        self.notifies[made.number] = made
        return made

    # What a test asks.

    def queue(self, name: str = "web") -> JobQueue:
        return self.supervisor.queue(name)

    def watcher(self, name: str = "web") -> Watcher:
        return self.supervisor.queue(name).watcher

    def command(self, wanted: WatcherOptions) -> ProcessTemplate:
        return self.supervisor.command(wanted, self.supervisor.config, self.supervisor.pool.numbers, None)

    def processes(self, name: str = "web") -> list[Process]:
        return list(self.watcher(name).processes)

    def child(self, wid: int = 1, name: str = "web") -> Child:
        """Return the youngest child of a slot."""
        pid = [each.pid for each in self.processes(name) if each.wid == wid][-1]
        return self.kernel.children[pid]

    def pids(self, name: str = "web") -> list[int]:
        return [each.pid for each in self.processes(name)]

    def bugs(self) -> list[str]:
        return [each.traceback for each in self.events if isinstance(each, BugCaught)]

    def texts(self) -> list[str]:
        return [each.text() for each in self.events]

    # What a test has happen.

    def config_is_read(self, config: Config | None = None) -> None:
        """Have the helper be through with the configuration, which it found wrong if there is none."""
        wrong = ConfigError("a.ini:1: wrong")
        none = {each.name.lower(): None for each in (() if config is None else config.watchers)}
        self.reloader.take(wrong if config is None else Preparation(config, none, {}))
        self.settle()

    def submit(self, job: Job, name: str = "web") -> Completion:
        completion = self.queue(name).submit(job)
        self.settle()
        return completion

    def settle(self) -> None:
        self.supervisor.settle()
        self.loop.serve()

    def runs(self, child: Child) -> None:
        """Have exec succeed."""
        if child.outcome is False:
            child.outcome = True
        self.loop.ready(child.report)

    def refuses(self, child: Child, number: int = errno.ENOENT) -> None:
        """Have exec fail, and be heard of."""
        self.kernel.refuse(child, number)
        self.loop.ready(child.report)
        self.reap()

    def says(self, child: Child, **fields: str) -> None:
        """Have a process send a message."""
        for process in (each for watcher in self.supervisor.watchers for each in watcher.processes):
            if process.pid == child.pid and process.notify >= 0:
                self.notifies[process.notify].messages.append(fields)
                self.loop.ready(process.notify)
                self.settle()
                return

    def dies(self, child: Child, *, code: int | None = None, signum: int | None = None) -> None:
        """Have a process end, and be reaped."""
        self.kernel.end(child, code=code, signum=signum)
        self.reap()

    def reap(self) -> None:
        """Have SIGCHLD come."""
        while self._reap():
            self.settle()

    def _reap(self) -> bool:
        exits = self.kernel.reap()
        if exits:
            self.supervisor.reaped(exits)
        return bool(exits)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and reap who was killed in it."""
        for _ in self._portions(seconds):
            self.reap()

    def _portions(self, seconds: float) -> Iterator[None]:
        end = self.loop.clock + seconds
        while True:
            self.loop.serve()
            yield
            if self.loop.clock >= end:
                return
            self.loop.clock = min(end, max(self.loop.clock, self.loop.following(end)))

    def all_ready(self) -> None:
        """Have every program run, and every process be ready, until nothing is under way."""
        for _ in range(1000):
            waiting = [each for each in self.kernel.living if each.outcome is False]
            for each in waiting:
                if each.rehearse:
                    each.outcome = True
                    self.kernel.end(each, code=0)
                self.runs(each)
            self.reap()
            if not waiting and all(watcher.is_settled for watcher in self.supervisor.watchers):
                return
            self.pass_time(0.5)
