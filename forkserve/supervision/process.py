"""The master's view of one pid: its state, its deadline, and the signals it gets; and of what it leaves behind.

A process is a session and a process group of its own, so that its end can be the end of all it started. It may have
been spawned by us or by somebody on our behalf: a pid that becomes our child is all that is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass

from forkserve.config.handover import Identity
from forkserve.supervision.lifecycle import PROCESS, Effect, ProcessEvent, ProcessState, step
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.snapshot import ProcessView
from forkserve.unix.notify import PORTION, NotifySocket
from forkserve.unix.scoreboard import Place

__all__ = ["Leftovers", "Process", "Stopping", "signal_group", "signal_name", "spoken"]

log = logging.getLogger("forkserve.process")

Hear = Callable[[dict[str, str]], None]
"""Called with the assignments of messages of sd_notify(3)."""

FLOOD_PAUSE = 0.05
"""Seconds in which a process that writes messages without end is not listened to."""

KILL_PATIENCE = 5.0
"""Seconds after which a SIGKILL that did nothing is sent again; only a process stuck in the kernel needs that."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """How a process is asked to stop: the signal, whether its whole group gets it, and seconds until SIGKILL."""

    signum: int = signal.SIGTERM
    group: bool = False
    timeout: float = 30.0


def signal_name(signum: int) -> str:
    """Return `SIGTERM` for 15; a real-time signal has no name of its own."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def signal_group(pgid: int, signum: int) -> bool:
    """Send a signal to a process group, 0 to ask only; False when there is no such group any more."""
    try:
        os.killpg(pgid, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, under another user
        return True
    return True


class Process:
    """One pid, used once, from its spawn to its end. Its pid is valid until it has been reaped, which only we do."""

    def __init__(
        self,
        identity: Identity,
        pid: int,
        *,
        generation: int,
        loop: Loop,
        place: Place | None = None,
        reports: NotifySocket | None = None,
    ) -> None:
        self.identity = identity
        self.pid = pid
        self.generation = generation
        self.state = ProcessState.SPAWNING
        self.started_at = loop.now()
        self.said_ready = False
        self.status = ""
        self._place = place
        self._reports = reports
        self._loop = loop
        self._deadline: Timer | None = None
        self._age: Timer | None = None
        self._late = ""
        self._stopping = Stopping()

    def __str__(self) -> str:
        return f"{self.identity} pid {self.pid}"

    @property
    def uptime(self) -> float:
        """Seconds since the spawn."""
        return self._loop.now() - self.started_at

    @property
    def is_ready(self) -> bool:
        """True while it serves."""
        return self.state is ProcessState.READY

    @property
    def is_asked_to_end(self) -> bool:
        """True once we have told it to stop, or have killed it."""
        return self.state in (ProcessState.DRAINING, ProcessState.KILLING)

    def view(self, restarts: int) -> ProcessView:
        """Return a picture of it; its slot knows how often it was filled anew."""
        return ProcessView(
            name=str(self.identity),
            wid=self.identity.wid,
            pid=self.pid,
            state=self.state,
            uptime=self.uptime,
            generation=self.generation,
            restarts=restarts,
            status=self.status,
        )

    def must_be_ready_within(self, timeout: float) -> None:
        """Kill it unless it is ready in `timeout` seconds; 0 waits for ever."""
        if timeout > 0:
            self._arm(timeout, f"was not ready within {timeout:g} s (ready_timeout)")

    def counts_as_ready_after(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` when it has stayed up that long and has neither said READY=1 nor been told to stop."""
        self._deadline = self._loop.call_later(seconds, then)

    def ages(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` after so many seconds more, if it lives."""
        self._age = self._loop.call_later(seconds, then)

    def listen(self, hear: Hear) -> None:
        """Call `hear` when messages have come at the address of this process, until it has been reaped."""
        reports = self._reports
        if reports is not None:
            self._loop.watch(reports.fileno(), selectors.EVENT_READ, lambda _events: self._take(reports, hear))

    def _take(self, reports: NotifySocket, hear: Hear) -> None:
        messages = reports.take()
        if len(messages) >= PORTION:
            self._loop.unwatch(reports.fileno())
            self._loop.call_later(FLOOD_PAUSE, lambda: self.listen(hear))
        hear({name: value for message in messages for name, value in message.items()})

    def became_ready(self) -> bool:
        """Note that it serves; True when that is news."""
        return Effect.ANNOUNCE in self._on(ProcessEvent.READY)

    def stop(self, stopping: Stopping) -> None:
        """Ask it to stop; it is killed when it has not in time."""
        self._stopping = stopping
        self._on(ProcessEvent.STOP)

    def kill(self) -> None:
        """Kill it and its group."""
        self._on(ProcessEvent.KILL)

    def exited(self) -> None:
        """Note that it has been reaped."""
        self._on(ProcessEvent.EXITED)
        if self._age is not None:
            self._age.cancel()
        reports, self._reports = self._reports, None
        if reports is not None:
            self._loop.unwatch(reports.fileno())
            reports.close()
        place, self._place = self._place, None
        if place is not None:
            try:
                place.release()
            except Exception:  # siblings share the board's memory and bell: the slot must not pay for them
                log.exception("%s: its record of the scoreboard cannot be cleared", self)

    def signal(self, signum: int, *, group: bool = False) -> None:
        """Send any signal."""
        with contextlib.suppress(ProcessLookupError):  # not reaped yet, but its group may be another user's, or none
            if group:
                signal_group(self.pid, signum)
            else:
                os.kill(self.pid, signum)

    def _on(self, event: ProcessEvent) -> tuple[Effect, ...]:
        before = self.state
        self.state, effects = step(PROCESS, before, event)
        if self.state is not before and self._deadline is not None:
            self._deadline.cancel()
        for effect in effects:
            if effect is Effect.SEND_STOP:
                self._send_stop()
            elif effect is Effect.SEND_KILL:
                self._send_kill()
            elif effect is Effect.TELL_LATE:
                log.warning("%s %s: killed", self, self._late)
        return effects

    def _send_stop(self) -> None:
        how = self._stopping
        log.debug("%s gets %s", self, signal_name(how.signum))
        self.signal(how.signum, group=how.group)
        # a process that was stopped by SIGSTOP or a terminal would never hear of it
        self.signal(signal.SIGCONT, group=how.group)
        self._arm(how.timeout, f"has not stopped within {how.timeout:g} s (graceful_timeout)")

    def _send_kill(self) -> None:
        if not signal_group(self.pid, signal.SIGKILL):
            self.signal(signal.SIGKILL)
        self._arm(KILL_PATIENCE, "has survived SIGKILL, the kernel holds it")

    def _arm(self, timeout: float, late: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._late = late
        self._deadline = self._loop.call_later(timeout, self._deadline_passed)

    def _deadline_passed(self) -> None:
        self._on(ProcessEvent.DEADLINE)


class Leftovers:
    """A process group whose leader has gone: what the leader started and left, to be ended too.

    Its members have become our children (we are their subreaper), so each end is an event here.
    """

    def __init__(
        self, leader: Process, stopping: Stopping, *, killed: bool, loop: Loop, on_gone: Callable[[], None]
    ) -> None:
        self.pgid = leader.pid
        self.name = str(leader)
        self.abandoned = False
        self._loop = loop
        self._on_gone = on_gone
        self._killed = killed
        signal_group(self.pgid, signal.SIGKILL if killed else stopping.signum)
        signal_group(self.pgid, signal.SIGCONT)
        self._deadline = loop.call_later(KILL_PATIENCE if killed else stopping.timeout, self._deadline_passed)

    @property
    def are_gone(self) -> bool:
        """True when nobody is left in the group."""
        if self.abandoned or not signal_group(self.pgid, 0):
            self._deadline.cancel()
            return True
        return False

    def kill(self) -> None:
        """End them now."""
        signal_group(self.pgid, signal.SIGKILL)
        self._deadline.cancel()
        self._killed = True
        self._deadline = self._loop.call_later(KILL_PATIENCE, self._deadline_passed)

    def _deadline_passed(self) -> None:
        if not self.are_gone and not self._killed:
            log.warning("%s has left processes that do not stop: killed", self.name)
            self.kill()
            return
        if not self.are_gone:
            log.error("%s has left processes that SIGKILL does not end", self.name)
            self.abandoned = True
        self._on_gone()


def spoken(seconds: float) -> str:
    """Return a time as a person says it: 0.02 s, 3.1 s, 17 min, 4.0 h, 12 d."""
    for limit, unit, name, digits in _UNITS:
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} d"


_UNITS = (
    (0.1, 1, "s", 3),
    (10, 1, "s", 1),
    (120, 1, "s", 0),
    (7200, 60, "min", 0),
    (172800, 3600, "h", 1),
)
