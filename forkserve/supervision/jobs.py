"""Work on a watcher that takes time, and what happens when two ask at once: each watcher has a queue of its own.

Rules: an operation begins, then is asked after every event of its watcher whether it is over. A stop supersedes what
runs and what waits, and a reload a start; anything else waits for its turn; a change of size runs beside. Nothing here
blocks, so the stop of one watcher that takes ten minutes holds up nothing but the commands to that watcher.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from typing import Protocol

from forkserve.errors import ControlError
from forkserve.supervision.command import Command
from forkserve.supervision.completion import Ticket
from forkserve.supervision.lifecycle import SlotState
from forkserve.supervision.plan import StepKind, next_step
from forkserve.supervision.process import signal_name
from forkserve.supervision.watcher import Watcher

__all__ = ["Operation", "Queue", "Reload", "Resize", "Restart", "Start", "Stop"]

log = logging.getLogger("forkserve.watcher")


class Operation(Protocol):
    """One piece of work on one watcher; `name` is how messages call it."""

    name: str

    def begin(self, watcher: Watcher) -> None:
        """Begin; raises ControlError when it makes no sense now."""

    def advance(self, watcher: Watcher) -> str | None:
        """Go on; return what was done when it is over, else None. Raises ControlError when it has failed."""


def _count(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def _running(watcher: Watcher) -> str | None:
    """Say what runs once nothing is under way; raises ControlError when a slot was given up."""
    if not watcher.is_settled:
        return None
    given_up = [slot for slot in watcher.slots.values() if slot.state is SlotState.FATAL]
    if given_up:
        what = f"{_count(len(given_up))} of {len(watcher.slots)} given up"
        raise ControlError(f"{watcher.name}: {what}; {watcher.name}[{given_up[0].wid}] {given_up[0].reason}")
    return f"{watcher.name}: {_count(sum(slot.is_ready for slot in watcher.slots.values()))} running"


class Start:
    """Run a watcher, and be done when all its processes are ready, or have been given up."""

    name = "start"

    def begin(self, watcher: Watcher) -> None:
        """Raise the wish."""
        watcher.raise_up()

    def advance(self, watcher: Watcher) -> str | None:
        """Wait until it is settled."""
        return _running(watcher)


class Stop:
    """Stop a watcher, and be done when nothing of it is left."""

    name = "stop"

    def begin(self, watcher: Watcher) -> None:
        """Lower the wish."""
        if watcher.processes and watcher.up:
            options = watcher.options
            how = f"{signal_name(options.stop_signal)}, then SIGKILL after {options.graceful_timeout:g} s"
            log.info("%s: stopping %s (%s)", watcher.name, _count(len(watcher.processes)), how)
        watcher.take_down()

    def advance(self, watcher: Watcher) -> str | None:
        """Wait until it is gone."""
        return f"{watcher.name}: stopped" if watcher.is_gone else None


class Restart:
    """Stop a watcher, then start it, if wished with another command."""

    name = "restart"

    def __init__(self, command: Command | None = None) -> None:
        self._command = command
        self._current: Stop | Start = Stop()

    def begin(self, watcher: Watcher) -> None:
        """Stop it."""
        self._current.begin(watcher)

    def advance(self, watcher: Watcher) -> str | None:
        """Start it once it is gone."""
        done = self._current.advance(watcher)
        if done is None or isinstance(self._current, Start):
            return done
        if self._command is not None:
            watcher.adopt(self._command)
        watcher.generation += 1
        self._current = Start()
        self._current.begin(watcher)
        return self._current.advance(watcher)


class Reload:
    """Replace the processes of a watcher one by one: start the new, wait until it is ready, then drain the old.

    The first failure ends it: what has not been replaced stays, and the options go back to those it runs with.
    """

    name = "reload"

    def __init__(self, command: Command | None = None) -> None:
        self._command = command
        self._failures = 0
        self._restart: Restart | None = None
        self._before: Command | None = None

    def begin(self, watcher: Watcher) -> None:
        """Open a new generation."""
        if not watcher.up:
            raise ControlError(f"{watcher.name} is stopped: start it")
        command = self._command or watcher.command
        if command.options.send_hup and self._command is None:
            log.info("%s: SIGHUP sent to %s", watcher.name, _count(watcher.signal(signal.SIGHUP)))
        elif not command.runs_side_by_side:
            self._restart = Restart(self._command)
            self._restart.begin(watcher)
        else:
            self._before = watcher.command
            self._failures = watcher.failures
            watcher.adopt(command)
            watcher.generation += 1
            count = _count(len(watcher.slots))
            log.info("%s: replacing %s one by one (generation %d)", watcher.name, count, watcher.generation)
            watcher.revive()

    def advance(self, watcher: Watcher) -> str | None:
        """Take the next step, if it is time."""
        if self._restart is not None:
            return self._restart.advance(watcher)
        if self._before is None:
            return f"{watcher.name}: SIGHUP sent"
        if watcher.failures > self._failures:
            self._give_up(watcher, self._before)
        step = next_step(watcher.sights(), watcher.generation)
        if step.kind is StepKind.REPLACE:
            watcher.replace(step.wid)
        if step.kind is not StepKind.DONE or not watcher.is_settled:
            return None
        message = f"{watcher.name}: {_count(len(watcher.slots))} replaced"
        log.info("%s (generation %d)", message, watcher.generation)
        return message

    def _give_up(self, watcher: Watcher, before: Command) -> None:
        watcher.adopt(before)
        kept = sum(1 for sight in watcher.sights() if 0 < sight.generation < watcher.generation)
        raise ControlError(f"reload of {watcher.name} failed, {_count(kept)} kept as before: {watcher.last_failure}")


class Resize:
    """Have another number of processes; it runs beside whatever else goes on."""

    name = "resize"

    def __init__(self, target: int) -> None:
        self._target = target

    def begin(self, watcher: Watcher) -> None:
        """Change the number."""
        if watcher.options.singleton and self._target > 1:
            raise ControlError(f"{watcher.name} is a singleton: it has one process at most")
        log.info("%s: %s wanted, was %d", watcher.name, _count(self._target), watcher.target)
        watcher.resize(self._target)

    def advance(self, watcher: Watcher) -> str | None:
        """Wait until it is settled."""
        if not watcher.up:
            return f"{watcher.name}: {_count(self._target)} when it is started"
        return _running(watcher)


class Queue:
    """The operations of one watcher: one that runs, those beside it, and those that wait."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._current: tuple[Operation, Ticket] | None = None
        self._beside: list[tuple[Operation, Ticket]] = []
        self._waiting: deque[tuple[Operation, Ticket]] = deque()

    @property
    def is_idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        return self._current is None and not self._waiting and not self._beside

    def submit(self, operation: Operation) -> Ticket:
        """Take an operation; its ticket is done when it is."""
        ticket = Ticket()
        if isinstance(operation, Resize):
            if self._begin(operation, ticket):
                self._beside.append((operation, ticket))
        else:
            if isinstance(operation, Stop) or (isinstance(operation, Reload) and self._is_starting):
                self._supersede(operation.name)
            self._waiting.append((operation, ticket))
        self.advance()
        return ticket

    @property
    def _is_starting(self) -> bool:
        """True while a start is all there is: a reload need not wait for what may never be ready."""
        return self._current is not None and isinstance(self._current[0], Start) and not self._waiting

    def _supersede(self, name: str) -> None:
        if self._current is not None and isinstance(self._current[0], Stop):
            dropped = list(self._waiting)
        else:
            dropped = [*([self._current] if self._current else []), *self._waiting]
            self._current = None
        self._waiting.clear()
        for operation, ticket in dropped:
            ticket.fail(ControlError(f"{self.watcher.name}: {operation.name} was superseded by {name}"))

    def advance(self) -> None:
        """Go on with everything that can; called after every event of the watcher."""
        self._beside = [pair for pair in self._beside if not self._is_over(*pair)]
        while True:
            if self._current is not None:
                if not self._is_over(*self._current):
                    return
                self._current = None
            if not self._waiting:
                return
            operation, ticket = self._waiting.popleft()
            if self._begin(operation, ticket):
                self._current = (operation, ticket)

    def _begin(self, operation: Operation, ticket: Ticket) -> bool:
        try:
            operation.begin(self.watcher)
        except ControlError as error:
            ticket.fail(error)
            return False
        return True

    def _is_over(self, operation: Operation, ticket: Ticket) -> bool:
        try:
            done = operation.advance(self.watcher)
        except ControlError as error:
            if isinstance(operation, Reload):
                log.error("%s", error)
            ticket.fail(error)
            return True
        if done is not None:
            ticket.succeed(done)
        return done is not None
