"""The master's companions, kept alive: the guard that outlives it, the log writer, and sidecars.

Rules: the first two are needed, but none is worth dying for. One that has died is replaced and told everything again.
If that fails it is reported, and supervision goes on without until a later start tries again.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from forkserve.config.capture import bytes_kept, captured_streams
from forkserve.config.handover import Identity
from forkserve.config.model import StreamOptions, WatcherOptions
from forkserve.logwriter.client import Output, Streams
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import AuxiliaryFailed, AuxiliaryReplaced, Event, OutputWarned
from forkserve.supervision.keeper.keeper import Keeper
from forkserve.supervision.os.guard import Guard
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import SpawnError, SpawnStage
from forkserve.supervision.spawning.handover import Outputs
from forkserve.unix.descriptors import descriptor, number_of

__all__ = ["Attendant", "AuxiliaryProcesses"]

_LAST = 3.0
"""Seconds after which companions are killed at the end, if a bug came in between when they were dismissed."""

_PAUSE = 5.0
"""Seconds until a guard that could not be forked is tried again, when a process starts."""
BACKOFF, LONGEST_BACKOFF = 0.5, 10.0
"""Seconds before a companion that has died early is replaced, doubled each time up to the second value."""
YOUNG = 5.0
"""Seconds of life up to which a death is early."""


class Attendant(Protocol):
    """A process beside the master that manages its own life, except for what only the master sees."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def pid(self) -> int | None:
        """Its pid, None if there is none."""

    def start(self) -> None:
        """Called when it may run."""

    def reaped(self, pid: int) -> None:
        """Called with every pid that was reaped."""

    def close(self) -> None:
        """Called when it is to end."""


class AuxiliaryProcesses:
    """Stands between the watchers and the companions; its methods are what `SpawnServices` needs."""

    def __init__(
        self,
        loop: Loop,
        emit: Callable[[Event], None],
        *,
        mark: str = "",
        asked_at: socket.socket | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """`mark` is the beginning of a variable that only our processes have, see `Guard`.

        `asked_at` is the socket at which a later master asks, if processes are to serve on without this one (`Keeper`).
        With `data`, it goes on with the companions of another one.
        """
        self._loop = loop
        self._mark = mark
        self._emit = emit
        self._streams = Streams()
        self.own_outputs: Callable[[], tuple[int, ...]] = tuple
        """Returns which of the master's own outputs are captured on their way."""
        self._watched = -1
        self._writer_began = loop.now() - YOUNG
        self._delay = 0.0
        self._attendants: list[Attendant] = []
        self._opened: dict[tuple[Identity, Outputs], Output] = {}
        self._groups: dict[int, tuple[int, float]] = {}
        self._guard: Guard | None = None
        self.asked_at = asked_at
        """To be set before `begin`; it is closed, and its file removed, at the end."""
        self._guard_again = 0.0
        self._restart_at: float | None = None
        self._closing: set[int] | None = None
        if data is not None:
            self._restore(data)

    def begin(self, *, armed_by: int = -1) -> None:
        """Post a guard, or a keeper where processes serve on without the master.

        `armed_by` is a pipe in which a byte will stand once that is to act.
        """
        self._post_guard()
        self._arm(armed_by)

    @property
    def keeper(self) -> Keeper | None:
        """The keeper, where processes serve on without the master."""
        return self._guard if isinstance(self._guard, Keeper) else None

    @property
    def outlived(self) -> bool:
        """True when processes are to serve on when the master is killed."""
        return self.asked_at is not None

    def to_data(self) -> dict[str, Any]:
        """Return its state as plain data."""
        return {
            "streams": self._streams.to_data(),
            "guard": None if self._guard is None else self._guard.to_data(),
            "asked_at": descriptor(-1 if self.asked_at is None else self.asked_at.fileno()),
            "groups": {str(pgid): list(each) for pgid, each in self._groups.items()},
            "writer_began": self._writer_began,
            "delay": self._delay,
            "guard_again": self._guard_again,
            "restart_at": self._restart_at,
            "closing": None if self._closing is None else sorted(self._closing),
        }

    def _restore(self, data: Mapping[str, Any]) -> None:
        self._streams = Streams.from_data(data["streams"])
        asked_at = number_of(data["asked_at"]) if "asked_at" in data else -1
        self.asked_at = None if asked_at < 0 else socket.socket(fileno=asked_at)
        kind = Guard if self.asked_at is None else Keeper
        self._guard = None if data["guard"] is None else kind.from_data(data["guard"])
        self._groups = {int(pgid): (signum, grace) for pgid, (signum, grace) in data["groups"].items()}
        self._writer_began, self._delay = data["writer_began"], data["delay"]
        self._guard_again = data["guard_again"]
        self._closing = None if data["closing"] is None else set(data["closing"])
        self._watch_streams()
        if data["restart_at"] is not None:
            self._restart_streams_at(data["restart_at"])

    @property
    def pids(self) -> frozenset[int]:
        """The pids of the living companions."""
        if self._closing is not None:
            return frozenset(self._closing)
        living = {self._streams.pid, None if self._guard is None else self._guard.pid}
        living |= {each.pid for each in self._attendants if not getattr(each, "outlives", False)}
        return frozenset(pid for pid in living if pid is not None)

    @property
    def known_pids(self) -> frozenset[int]:
        """The pids of the living companions, and of those that outlive the others."""
        return self.pids | frozenset(each.pid for each in self._attendants if each.pid is not None)

    def keep_running(self, attendant: Attendant) -> None:
        """Start a process that manages itself, and tell it what it cannot see, to the end."""
        self._attendants.append(attendant)
        attendant.start()

    def look_after(self, attendant: Attendant) -> None:
        """Tell a process what it cannot see, to the end; it runs already."""
        self._attendants.append(attendant)

    def dismiss(self, attendant: Attendant) -> None:
        """Forget a process that has ended for good."""
        if attendant in self._attendants:
            self._attendants.remove(attendant)

    @property
    def names(self) -> dict[int, str]:
        """The names of the living ones, by pid."""
        known = {self._streams.pid: "log writer"}
        if self._guard is not None:
            known[self._guard.pid] = self._guard.name
        known |= {each.pid: each.name for each in self._attendants}
        return {pid: name for pid, name in known.items() if pid is not None}

    def outputs(self, options: WatcherOptions, identity: Identity) -> Outputs:
        """Open the outputs of a process; raises SpawnError when descriptors have run out."""
        stdout, stderr = self._captured(options, identity.wid)
        try:
            output = self._streams.open(stdout, stderr, kept=bytes_kept(options))
        except OSError as error:
            text = f"cannot capture the output of {identity}: {error.strerror}"
            raise SpawnError(error.errno or 0, SpawnStage.DESCRIPTORS, text) from None
        self._watch_streams()
        out = _choose(output.stdout_fd, 1, closed=options.close_child_stdout)
        err = _choose(output.stderr_fd, 2, closed=options.close_child_stderr)
        outputs = Outputs(out, out if options.redirect_stderr else err)
        self._opened[identity, outputs] = output
        return outputs

    def _captured(self, options: WatcherOptions, wid: int = 1) -> tuple[StreamOptions | None, StreamOptions | None]:
        # processes that serve on without the master also outlive the writer
        own = () if self.outlived or not self._streams.may_pass_on else self.own_outputs()
        return captured_streams(options, wid, own=own)

    def keeps_logs_of(self, options: WatcherOptions) -> bool:
        """Tell whether output of such a watcher is captured and kept."""
        return any(self._captured(options)) and bytes_kept(options) > 0

    def on_spawned(self, outputs: Outputs, identity: Identity, pid: int) -> None:
        """Let the output of a started process be written; pid 0 means that it was not started."""
        # two starts of one slot may be under way at once; those of which nothing is captured look alike
        output = self._opened.pop((identity, outputs), None)
        if output is None:
            return
        if pid:
            self._streams.attach(output, name=str(identity), pid=pid, watcher=identity.watcher)
        else:
            self._streams.abandon(output)

    def on_group_started(self, pgid: int, stop_signal: int, grace: float) -> None:
        """Called when a process group was started."""
        self._groups[pgid] = (stop_signal, grace)
        if self._guard is not None:
            self._guard.began(pgid, stop_signal, grace)
        elif self._closing is None and self._loop.now() >= self._guard_again:
            self._post_guard()
            self._arm()

    def on_group_ended(self, pgid: int) -> None:
        """Called when nothing is left of a process group."""
        self._groups.pop(pgid, None)
        self._streams.forget(pgid)
        if self._guard is not None:
            self._guard.ended(pgid)

    @property
    def can_tell_logs(self) -> bool:
        """True when there is a log writer that can be asked."""
        return self._streams.can_tell

    def tell_logs(self, connection: int, facts: dict[str, Any]) -> None:
        """Let the log writer answer over a connection, which is closed here."""
        self._streams.tell(connection, facts)

    def reopen(self) -> None:
        """Let every file of captured output be reopened."""
        self._streams.reopen()

    def reaped(self, exit_: Exit) -> None:
        """Replace a companion or a sidecar, if the reaped process was one."""
        pid = exit_.pid
        for each in tuple(self._attendants):
            with Barrier(self._emit, f"the end of a companion, pid {pid}"):
                each.reaped(pid)
        if self._closing is not None:
            self._closing.discard(pid)
        elif self._guard is not None and pid == self._guard.pid:
            self._emit(AuxiliaryReplaced(auxiliary=self._guard.name, pid=pid))
            self._guard.close()
            self._post_guard()
            self._arm()
        elif pid == self._streams.pid:
            self._unwatch_streams()
            self._streams.lost()
            is_young = self._loop.now() - self._writer_began < YOUNG
            self._delay = min(max(2 * self._delay, BACKOFF), LONGEST_BACKOFF) if is_young else 0.0
            self._emit(AuxiliaryReplaced(auxiliary="log writer", pid=pid, delay=self._delay))
            self._restart_streams_at(self._loop.now() + self._delay)

    def farewell(self) -> None:
        """Have all processes end with the master from now on, since it stops."""
        if (keeper := self.keeper) is not None:
            with contextlib.suppress(OSError):
                keeper.farewell()

    def close(self) -> None:
        """Dismiss all: they end by themselves, and `pids` is empty when they have been reaped."""
        if self._closing is not None:
            return
        self._closing = set(self.pids)
        attendants = [each.close for each in self._attendants]
        dismissals = [*attendants, self._unwatch_streams, self._streams.close, self._close_guard, self._close_asked_at]
        failed = [each for each in dismissals if not self._is_done(each)]
        if failed:
            self._loop.call_later(_LAST, self._kill_the_rest)

    def _is_done(self, dismiss: Callable[[], object]) -> bool:
        """Dismiss one companion; False when a bug has come in between, which must not keep the master from ending."""
        with Barrier(self._emit, "the end of a companion"):
            dismiss()
            return True
        return False

    def _kill_the_rest(self) -> None:
        for pid in self._closing or ():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _close_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    def _close_asked_at(self) -> None:
        if self.asked_at is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.asked_at.getsockname())
            self.asked_at.close()
            self.asked_at = None

    def _post_guard(self) -> None:
        asked_at = self.asked_at
        try:
            self._guard = Guard(mark=self._mark) if asked_at is None else Keeper(asked_at.fileno(), mark=self._mark)
        except OSError as error:
            self._guard = None
            self._guard_again = self._loop.now() + _PAUSE
            self._failed("guard", error, "if the master is killed, its processes may outlive it")

    def _arm(self, decided: int = -1) -> None:
        """Have the guard act at the end of the master, on all groups that there are."""
        if (keeper := self.keeper) is not None:
            keeper.arm(decided)
        if self._guard is not None:
            for pgid, (stop_signal, grace) in self._groups.items():
                self._guard.began(pgid, stop_signal, grace)

    def _restart_streams_at(self, instant: float) -> None:
        self._restart_at = instant
        self._loop.call_at(instant, self._restart_streams)

    def _restart_streams(self) -> None:
        self._restart_at = None
        if self._closing is not None or self._streams.pid is not None:
            return
        self._writer_began = self._loop.now()
        try:
            self._streams.restart()
        except OSError as error:
            self._failed("log writer", error, "captured output waits in its pipes")
        self._watch_streams()

    def _failed(self, auxiliary: str, error: OSError, effect: str) -> None:
        self._emit(AuxiliaryFailed(auxiliary=auxiliary, reason=error.strerror or str(error), effect=effect))

    def _watch_streams(self) -> None:
        fd = self._streams.fileno()
        if fd >= 0 and fd != self._watched:
            self._watched = fd
            self._loop.watch(fd, selectors.EVENT_READ, self._hear_writer)

    def _unwatch_streams(self) -> None:
        if self._watched >= 0:
            self._loop.unwatch(self._watched)
        self._watched = -1

    def _hear_writer(self, _events: int) -> None:
        warnings = self._streams.take()
        for warning in warnings:
            self._emit(OutputWarned(message=warning))
        if not warnings:
            # end of file: it has died, and is replaced when it is reaped
            self._unwatch_streams()


def _choose(captured: int | None, inherited: int, *, closed: bool) -> int | None:
    return None if closed else inherited if captured is None else captured
