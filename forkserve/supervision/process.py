"""One process and what it leaves behind, as data: state, deadlines, and the pure steps between them.

Each process leads its own session and process group, so that everything it started can be ended with it. It is spawned
by the master, or by a zygote on its behalf. All that is needed is a pid that becomes a child of the master; it may
arrive later than the request for it.

Rules: plain values only, so that all of it can be serialised (`state`). Signals are sent by `processes`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Self, TypedDict

from forkserve.config.handover import ZYGOTE_WID, Identity
from forkserve.config.model import WatcherOptions
from forkserve.supervision.deadline import Deadline, DeadlineKind, earliest
from forkserve.supervision.lifecycle import PROCESS, Effect, ProcessState, ProcessTrigger, step
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import SpawnRefusal
from forkserve.supervision.snapshot import ProcessView

__all__ = ["EXEC_PATIENCE", "KILL_PATIENCE", "Names", "OrphanedGroup", "Process", "Stopping", "lateness"]

EXEC_PATIENCE = 5.0
"""Seconds until `exec` must have happened; it needs a few milliseconds, but a dead network drive takes for ever."""

KILL_PATIENCE = 5.0
"""Seconds after which a SIGKILL without effect is sent again; only a process stuck in the kernel needs that."""

_COMPLAINTS = 5
"""Complaints about the messages of one process that the log has, so that it cannot fill the log."""


class Names(TypedDict):
    """The fields by which events identify a process."""

    watcher: str
    process: str
    wid: int
    pid: int
    generation: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """How a process is asked to stop: the signal, whether its whole group gets it, and the seconds until SIGKILL."""

    signum: int = signal.SIGTERM
    group: bool = False
    timeout: float = 30.0

    @classmethod
    def of(cls, options: WatcherOptions) -> Self:
        """Return how a watcher wants its processes to be stopped."""
        return cls(options.stop_signal, options.stop_children, options.graceful_timeout)


@dataclass(slots=True, kw_only=True)
class Process:
    """One pid, used once, from the request for it to its end.

    `number` is unique in the watcher, `name` that by `process_name`, or empty. `circus_wid` is the `$(circus.wid)` of
    its command as if the first were 1 (0: its `wid`). `pid`
    is 0 until there is one. `folder` is the working directory in which its program was executed, links resolved.
    `end_at` is the instant at which it gets its stop signal, or with `end_by_kill` SIGKILL; `age_at` that of `max_age`;
    `deaf_until` that until which its messages wait. `report` is the pipe of its start and `notify` the socket of its
    messages, as descriptors, -1 if there is none. `record` is the index of its record on the scoreboard. `queues` are
    the numbers of the queues that it can read from; with `own_queues` only processes of its slot read its part of them.
    `held` means that it must not accept. `unsent` is the stop signal that waits for a hook. `forked_by` is the number
    of its zygote, 0 if it was executed; `promotion` is the channel on which it can be told to become one, and `warm`
    means that it has served enough for that. `complaints` are those that the log has about its messages. `exit` is the
    result of waitpid(2), whether or not it was handled: a process that has one is never signalled. Until `leaves_by` a
    process that was told to stop may still accept. An `adopted` one was started by a master that was killed, and is no
    child.
    """

    number: int
    watcher: str
    wid: int
    generation: int
    pid: int
    started_at: float
    circus_wid: int = 0
    name: str = ""
    argv: tuple[str, ...] = ()
    folder: str = ""
    state: ProcessState = ProcessState.REQUESTED
    deadline: Deadline | None = None
    stopping: Stopping = field(default_factory=Stopping)
    ready_at: float | None = None
    said_ready: bool = False
    said_stopping: bool = False
    held: bool = False
    reloading: bool = False
    group: int = 0
    main_pid: int = 0
    probe: str = ""
    probe_at: float | None = None
    probe_pause: float = 0.0
    probe_reason: str = ""
    watchdog: float = 0.0
    watchdog_at: float | None = None
    status: str = ""
    complaints: tuple[str, ...] = ()
    end_at: float | None = None
    end_by_kill: bool = False
    age_at: float | None = None
    deaf_until: float | None = None
    refusal: SpawnRefusal | None = None
    exit: Exit | None = None
    report: int = -1
    notify: int = -1
    notify_address: str = ""
    queues: tuple[int, ...] = ()
    own_queues: bool = False
    record: int = -1
    forked_by: int = 0
    promotion: int = -1
    warm: bool = False
    unsent: int = 0
    adopted: bool = False
    leaves_by: float | None = None

    def __str__(self) -> str:
        return f"{self.identity} pid {self.pid}"

    @property
    def identity(self) -> Identity:
        """Which one of its watcher it is."""
        return Identity(self.watcher, self.wid, self.name)

    def is_news(self, complaint: str) -> bool:
        """Note a complaint about its messages; True for the first of a kind, and for the first few of a process."""
        if complaint in self.complaints or len(self.complaints) >= _COMPLAINTS:
            return False
        self.complaints += (complaint,)
        return True

    def names(self) -> Names:
        """Return the fields by which every event identifies it."""
        return {
            "watcher": self.watcher,
            "process": self.name,
            "wid": self.wid,
            "pid": self.pid,
            "generation": self.generation,
        }

    @property
    def is_zygote(self) -> bool:
        """True for a process that serves no requests, and forks workers."""
        return self.wid == ZYGOTE_WID

    @property
    def never_began(self) -> bool:
        """True for a process that a zygote was to fork, and will not: there is no pid to reap."""
        return self.pid == 0 and (self.exit is not None or self.refusal is not None)

    @property
    def is_ready(self) -> bool:
        """True while it serves."""
        return self.state is ProcessState.READY

    @property
    def is_probed(self) -> bool:
        """True while its readiness probe is repeated."""
        return bool(self.probe) and self.state is ProcessState.SPAWNING and not self.is_asked_to_end

    @property
    def is_asked_to_end(self) -> bool:
        """True once it was told to stop, or killed, or is about to be."""
        return self.end_at is not None or self.state in (ProcessState.DRAINING, ProcessState.KILLING)

    @property
    def is_alive(self) -> bool:
        """True while its pid is a child of ours that has not been reaped."""
        return self.pid > 0 and self.exit is None

    @property
    def next_instant(self) -> float | None:
        """The first instant at which something must be done about it."""
        if self.never_began or self.exit is not None:
            return 0.0
        deadline = None if self.deadline is None else self.deadline.instant
        others = (self.end_at, self.age_at, self.deaf_until, self.watchdog_at, self.probe_at, self.leaves_by)
        return earliest((deadline, *others))

    @property
    def pgid(self) -> int:
        """Its process group: the pid that it was started with."""
        return self.group or self.pid

    def ready_for(self, now: float) -> float | None:
        """Return the seconds since it became ready, None if it never was."""
        return None if self.ready_at is None else now - self.ready_at

    def on(self, event: ProcessTrigger, now: float) -> tuple[Effect, ...]:
        """Take a step of its table, and set the deadline of the new state; returns what is to be done."""
        before = self.state
        self.state, effects = step(PROCESS, before, event)
        if self.state is not before:
            self.deadline = None
        if Effect.SEND_STOP in effects:
            self.deadline = Deadline.after(self.stopping.timeout, DeadlineKind.STOP, now)
        if Effect.SEND_KILL in effects:
            self.deadline = Deadline.after(KILL_PATIENCE, DeadlineKind.KILL, now)
        if Effect.ANNOUNCE in effects:
            self.ready_at = now
        return effects

    def view(self, restarts: int, now: float) -> ProcessView:
        """Return a view of it; the slot supplies the number of restarts."""
        return ProcessView(
            name=str(self.identity),
            wid=self.wid,
            circus_wid=self.circus_wid or self.wid,
            pid=self.pid,
            state=self.state,
            uptime=now - self.started_at,
            generation=self.generation,
            restarts=restarts,
            status=self.status,
            is_zygote=self.is_zygote,
            is_adopted=self.adopted,
        )


_LATE = {
    DeadlineKind.EXEC: "did not run its program within {:g} s",
    DeadlineKind.READY: "was not ready within {:g} s (ready_timeout)",
    DeadlineKind.STOP: "has not stopped within {:g} s (graceful_timeout)",
    DeadlineKind.KILL: "has survived SIGKILL: it hangs in the kernel",
}


def lateness(deadline: Deadline) -> str:
    """Return what a process that missed this deadline did not do in time."""
    return _LATE[deadline.kind].format(deadline.timeout)


@dataclass(slots=True, kw_only=True)
class OrphanedGroup:
    """A process group whose leader has ended: what the leader started and left, to be ended too.

    Its members have become children of the master (a subreaper), so each end is an event here. `killed` means that
    SIGKILL was sent, `abandoned` that even this had no effect.
    """

    pgid: int
    leader: str
    killed: bool
    deadline: Deadline
    abandoned: bool = False
