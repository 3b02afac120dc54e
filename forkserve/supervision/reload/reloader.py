"""Applies a new configuration as one transaction: plan, prepare, apply, then done or taken back.

Theory of operation. `request` lets a helper read the configuration, so that the loop goes on while that blocks.
Whatever can be refused is refused then, with nothing changed. Then sockets get their new names and each watcher its
job. `advance` is called after every event. When a watcher fails, everything that was changed goes
back, sockets included, and the next change waits for that. When all are through, new sockets accept clients, the old
queues are emptied (`retirement`), and what is no longer configured is stopped. There is one change at a time; requests
that arrive meanwhile become one more.

HUP also replaces processes whose options have not changed, since their code may have. If such a watcher fails, it keeps
what it has, and nothing is taken back; neither is it for one that did not serve before. A new watcher that fails is
retried by its own rules, and affects nothing else, unless it is given up.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from forkserve.config.editing import EditedSource
from forkserve.config.load import ConfigSource
from forkserve.errors import ConfigErrors, ControlError, ForkserveError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import (
    ConfigRead,
    ConfigRefused,
    ConfigWarned,
    ReloadTakenBack,
    RestartNeeded,
    SocketBound,
)
from forkserve.supervision.jobqueue.queue import JobQueue, Superseded
from forkserve.supervision.jobqueue.turns import Act, JobTurns
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.process import Process
from forkserve.supervision.reload.change import (
    ChangePhase,
    ChangeProgress,
    ConfigChange,
    Undo,
    acts_back,
    acts_for,
    differences,
    insist,
    plan_change,
    summary,
    target_given,
    target_left,
)
from forkserve.supervision.reload.plan import Plan
from forkserve.supervision.reload.preparation import Preparation
from forkserve.supervision.reload.reading import READING_TIMEOUT, ConfigReading
from forkserve.supervision.reload.requests import ChangeRequest, ChangeRequests
from forkserve.supervision.reload.rereading import Rereading, queues_awaited, queues_wanted
from forkserve.supervision.reload.retirement import Retirement
from forkserve.supervision.spawning.command import ProcessTemplate, mixed_readers
from forkserve.supervision.supervisor import Supervisor
from forkserve.wording import listed

__all__ = ["ConfigChange", "ChangePhase", "Reloader"]

_TICK = 0.02
"""Seconds between two checks of a queue that is being emptied; there is no event for that."""


class Reloader:
    """The change of the configuration in progress, if there is one."""

    def __init__(
        self, supervisor: Supervisor, source: ConfigSource, loop: Loop, *, timeout: float = READING_TIMEOUT
    ) -> None:
        self.progress = ChangeProgress()
        self.waiting = ChangeRequests()
        self.retirement = Retirement(supervisor.pool, supervisor.processes, supervisor.emit, awaited=self._awaited)
        self._rereading = Rereading(supervisor, self.retirement)
        self._supervisor = supervisor
        self.source = source
        self.reading = ConfigReading(loop, self.take, timeout=timeout)
        self._loop = loop
        self.turns = JobTurns(loop)
        self._timer: Timer | None = None

    @property
    def phase(self) -> ChangePhase:
        """The progress of the change."""
        return self.progress.phase

    @property
    def is_busy(self) -> bool:
        """True while a change is in progress, or requested."""
        return self.progress.phase is not ChangePhase.IDLE or bool(self.waiting)

    def request(self, *, processes: bool = True) -> Completion:
        """Read the configuration again and apply what differs; with `processes`, replace the unchanged ones as well.

        The completion fails if the configuration is refused, or the change was taken back.
        """
        return self.ask(ChangeRequest(processes=processes))

    def ask(self, wanted: ChangeRequest) -> Completion:
        """Make a change after those before it; the completion fails as that of `request` does."""
        for watcher in self._supervisor.watchers if wanted.edit is None else ():
            watcher.resumes = watcher.paused
        if self.is_busy:
            return self.waiting.add(wanted)
        completion = wanted.ask()
        self._begin(wanted)
        return completion

    def reaped(self, exit_: Exit) -> None:
        """Note that a process has been reaped; it may be the helper."""
        self.reading.reaped(exit_.pid)

    def cancel(self) -> None:
        """Leave everything as it is, since the master stops: all requests fail."""
        self.reading.stop()
        self.turns.clear()
        ended, self.progress = self.progress, ChangeProgress()
        for completion in (*ended.asked.completions, *self.waiting.clear()):
            completion.fail(ControlError("forkserve is stopping"))

    def hold(self, process: Process) -> bool:
        """Tell whether a replaced process must go on reading for a while; see `Retirement`."""
        return self.progress.phase is not ChangePhase.IDLE and self.retirement.hold(process)

    def advance(self) -> None:
        """Advance the change, if it is time; called after every event."""
        with self._barrier():
            self._advance()

    @contextlib.contextmanager
    def _barrier(self) -> Iterator[None]:
        """Let a bug end the current change, but not those to come."""
        is_through = False
        with Barrier(self._supervisor.emit, "the change of the configuration"):
            yield
            is_through = True
        if not is_through and self.progress.phase is not ChangePhase.IDLE:
            self.turns.clear()
            self._end(ForkserveError("a bug in forkserve; its log says more"))

    def _advance(self) -> None:
        if self.progress.phase is ChangePhase.APPLYING:
            self._judge()
        if self.progress.phase is ChangePhase.DRAINING and self.retirement.is_drained(self._loop.now()):
            self._remove_the_rest()
        if self.progress.phase is ChangePhase.TAKING_BACK and self._is_through and not self.progress.insisted:
            self._insist()
        if self.progress.phase in (ChangePhase.REMOVING, ChangePhase.TAKING_BACK) and self._is_through:
            self._finish()
        self._stop_readers()
        self.retirement.shut_unread(self._rereading.needed)
        again = self._rereading.read_on(self._loop.now())
        self.retirement.close_unread(self._rereading.needed)
        if self.progress.phase is ChangePhase.IDLE:
            self.retirement.release_unwanted(partial(queues_wanted, self._supervisor))
        if self.progress.phase is ChangePhase.DRAINING or self.retirement.held:
            self._come_back(_TICK)
        elif again is not None:
            self._come_back(again)

    @property
    def _is_through(self) -> bool:
        underway = (*self.progress.tickets.items(), *self.progress.leftovers.items())
        return all(each.done or self._goes_on_alone(name) for name, each in underway)

    def _awaited(self) -> frozenset[int]:
        change = self.progress.change
        return frozenset() if change is None else queues_awaited(self._supervisor, change.leaving)

    # Reading.

    def _begin(self, asked: ChangeRequest) -> None:
        self.progress = ChangeProgress(ChangePhase.READING, asked)
        self.read()

    def read(self) -> None:
        """Let a helper read the configuration of the current change, for the first time or again."""
        asked = self.progress.asked
        source = self.source if asked.edit is None else EditedSource(self._supervisor.in_force, asked.edit)
        try:
            self.reading.begin(source)
        except ForkserveError as error:
            self._refuse(error)

    def go_on(self) -> None:
        """Go on with the current change, after it was deserialised, or after the reading was stopped."""
        if self.phase is ChangePhase.READING and not self.reading.is_busy:
            self.read()
        self.advance()

    def take(self, outcome: Preparation | ForkserveError) -> None:
        """Apply what was read, or refuse it."""
        with self._barrier():
            if isinstance(outcome, ForkserveError):
                self._refuse(outcome)
            else:
                self._taken(outcome)

    def _taken(self, outcome: Preparation) -> None:
        try:
            change, wanted, commands = plan_change(self._supervisor, outcome, self.progress.asked.may_replace)
        except ForkserveError as error:
            self._refuse(error)
            return
        self._apply(change, wanted, commands)

    def _refuse(self, error: ForkserveError) -> None:
        if self.progress.asked.edit is None:
            self._supervisor.emit(ConfigRefused(reason=_in_one_line(error)))
        self._end(error)

    # Applying.

    def _apply(self, change: ConfigChange, wanted: Plan, commands: Mapping[str, ProcessTemplate]) -> None:
        supervisor = self._supervisor
        progress = self.progress
        progress.phase, progress.change, progress.commands = ChangePhase.APPLYING, change, commands
        self.retirement.remember(watcher.command for watcher in supervisor.watchers)
        supervisor.pool.commit(change.sockets)
        others = (each for each in commands.values() if not each.is_worker or each.is_on_demand)
        supervisor.pool.let_wait({number for each in others for number in each.queues})
        supervisor.config = change.new
        logging.getLogger("forkserve").setLevel(change.new.master.loglevel.upper())
        self._tell(change, wanted)
        acts = acts_for(supervisor, change, wanted, commands, progress.asked)
        supervisor.arrange([options.name for options in change.new.watchers])
        self._submit(acts)
        self.advance()

    def _submit(self, acts: Sequence[Act]) -> None:
        """Wait for what each watcher does; hundreds of them begin a few at a time."""
        self.progress.tickets.update((name, Completion()) for name, _, _ in acts)
        turns = {id(queue): partial(self._take_turn, name, act) for name, queue, act in acts}
        self.turns.each([queue for _, queue, _ in acts], lambda queue: turns[id(queue)](queue))

    def _take_turn(self, name: str, act: Callable[[], Completion | None], queue: JobQueue) -> None:
        with self._barrier():
            found = act()
            if found is None:
                del self.progress.tickets[name]
            else:
                self.progress.tickets[name] = found
        self._supervisor.changed(queue.watcher)

    def _tell(self, change: ConfigChange, wanted: Plan) -> None:
        supervisor = self._supervisor
        supervisor.emit(ConfigRead(changes=summary(wanted, change), by_control=self.progress.asked.edit is not None))
        for event in differences(wanted):
            supervisor.emit(event)
        for warning in (*change.new.warnings, *mixed_readers(self.progress.commands.values(), change.new.sockets)):
            supervisor.emit(ConfigWarned(message=warning))
        for name in wanted.restart:
            supervisor.emit(RestartNeeded(option=name))
        if wanted.restart:
            self.progress.asked.done += f"; a restart of forkserve is needed for {listed(wanted.restart)}"
        for number in change.sockets.opened:
            listener = supervisor.pool.listener(number)
            supervisor.emit(SocketBound(socket=listener.name, address=listener.address))
        self.retirement.begin()

    def _judge(self) -> None:
        """Decide whether the change has failed, is through, or needs more time."""
        change = self.progress.change
        assert change is not None
        failed = {name: each for name, each in self.progress.tickets.items() if each.error is not None}
        for name, each in tuple(failed.items()):
            if self._was_stopped(name) or (name in change.added and isinstance(each.error, Superseded)):
                del failed[name]
        vetoes = {name: each for name, each in failed.items() if change.has_veto(name)}
        if vetoes:
            self.progress.why = "\n".join(str(each.error) for each in vetoes.values())
            self._take_back(change, frozenset(failed))
        elif self._is_through:
            self.progress.why = "\n".join(str(each.error) for each in failed.values())
            self.progress.phase = ChangePhase.DRAINING
            for name in failed:
                self._go_on_with(change, name)
            self._supervisor.pool.show()
            self.retirement.seal(self._loop.now())

    def _go_on_with(self, change: ConfigChange, name: str) -> None:
        """Let a watcher that has failed without a veto run its new command, by its own rules."""
        before, command = change.before(name), self.progress.commands[name.lower()]
        if before is not None and before.replaced:
            queue = self._supervisor.queue(name)
            insist(queue, command, target_left(queue.watcher, before, target_given(before, command), back=False))

    def _was_stopped(self, name: str) -> bool:
        """Tell whether a watcher was stopped by request meanwhile, which is no failure; it gets the new options."""
        watcher = self._supervisor.find(name)
        if watcher is None or watcher.up:
            return watcher is None
        command = self.progress.commands.get(name.lower())
        if command is not None:  # else it is on its way out
            watcher.adopt(command)
        return True

    def _goes_on_alone(self, name: str) -> bool:
        """Tell whether a watcher that did not serve is retried: its own rules end that, and nothing waits for it."""
        assert self.progress.change is not None
        stood = self.progress.change.stand(name)
        watcher = self._supervisor.find(name)
        return watcher is not None and not stood.served and watcher.population.failures.count > stood.failures

    def _remove_the_rest(self) -> None:
        assert self.progress.change is not None
        self.progress.phase = ChangePhase.REMOVING
        supervisor = self._supervisor
        self.progress.tickets = {name: each for name, each in self.progress.tickets.items() if each.done}
        leaving = self.progress.change.leaving
        self._submit([(name, supervisor.queue(name), partial(supervisor.remove, name)) for name in leaving])

    # Taking back.

    def _take_back(self, change: ConfigChange, failed: frozenset[str]) -> None:
        supervisor = self._supervisor
        self.progress.phase = ChangePhase.TAKING_BACK
        self.progress.insisted = False
        self.retirement.remember(self.progress.commands.values())
        supervisor.pool.take_back(change.sockets)
        supervisor.config = change.old
        logging.getLogger("forkserve").setLevel(change.old.master.loglevel.upper())
        untouched = self.turns.clear()
        # what goes on still of the change is waited for as well: the next change finds nothing of it
        begun = {name: each for name, each in self.progress.tickets.items() if name.lower() not in untouched}
        self.progress.leftovers, self.progress.tickets = begun, {}
        self._submit(acts_back(supervisor, change, self._given, failed=failed, untouched=untouched))
        supervisor.arrange([options.name for options in change.old.watchers])
        self.retirement.seal(self._loop.now())

    def _given(self, undo: Undo) -> int:
        """Return how many processes the change has given a watcher; for one that it removes, as many as before."""
        command = self.progress.commands.get(undo.name.lower())
        return undo.target if command is None else target_given(undo, command)

    def _insist(self) -> None:
        """Stop and start those whose former processes could not be restored."""
        assert self.progress.change is not None
        self.progress.insisted = True
        for undo in self.progress.change.undo:
            ticket = self.progress.tickets.get(undo.name)
            if undo.removed or ticket is None or ticket.error is None:
                continue
            self.progress.why = f"{self.progress.why}\n{ticket.error}"
            queue = self._supervisor.queue(undo.name)
            stopped = insist(queue, undo.command, target_left(queue.watcher, undo, self._given(undo), back=True))
            if stopped is not None:
                self.progress.tickets[undo.name] = stopped

    # The end.

    def _finish(self) -> None:
        change, why = self.progress.change, self.progress.why
        assert change is not None
        if self.progress.phase is ChangePhase.TAKING_BACK:
            back = tuple(each.name for each in change.undo)
            event = ReloadTakenBack(watchers=back, reason=why.replace("\n", "; "))
            self._supervisor.emit(event)
            self._end(ForkserveError(f"{why}\nthe former configuration is in force"))
        else:
            self._end(ForkserveError(why) if why else None)

    def _end(self, error: ForkserveError | None) -> None:
        ended, self.progress = self.progress, ChangeProgress()
        self._supervisor.pool.show()
        following = self.waiting.take()
        if following is not None:
            self._begin(following)
        for completion in ended.asked.completions:
            if error is None:
                completion.succeed(ended.asked.done)
            else:
                completion.fail(error)

    def _stop_readers(self) -> None:
        undecided = self.progress.phase in (ChangePhase.READING, ChangePhase.APPLYING, ChangePhase.TAKING_BACK)
        for pid in self.retirement.to_stop(self._loop.now(), undecided=undecided):
            for watcher in self._supervisor.watchers:
                watcher.queue_drainers.stop(pid)

    def _come_back(self, delay: float) -> None:
        if self._timer is not None and self._timer.deadline > self._loop.now() + delay:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.advance()


def _in_one_line(error: ForkserveError) -> str:
    return "; ".join(str(each) for each in error.errors) if isinstance(error, ConfigErrors) else str(error)
