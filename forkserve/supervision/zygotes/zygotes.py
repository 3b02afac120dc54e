"""The zygotes of one watcher: each imports the application of its generation once, and forks workers on request.

Theory of operation. A zygote is a process like any other, without a slot: it is executed, sends READY=1 when it has
imported, and is stopped and reaped like the rest. The first process of a generation that is requested starts it. A
request waits until the zygote is ready, then it is sent; one is in progress at a time. The worker itself answers with
its pid, and from then on it is a process like one that the master has spawned.

If a zygote ends before it was ever ready, all that wait for it fail: to a slot it is as if its own process had ended
so, and a reload goes back. One that ends later is started again, and what waits for it waits for the next. After
several losses workers are executed, and import by themselves.

Rules: state is plain data (`ZygoteState`); sockets and what a launch needs are derived from it, or released.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial

from forkserve.config.handover import ZYGOTE_WID
from forkserve.errors import ForkserveError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import Deadline, DeadlineKind, earliest
from forkserve.supervision.events import ZygoteDelayed, ZygoteGivenUp, ZygoteReforked
from forkserve.supervision.os.forkchannel import ForkChannel
from forkserve.supervision.os.spawn import SpawnRefusal, SpawnStage
from forkserve.supervision.process import Process, Stopping
from forkserve.supervision.processes.deaths import errno_of, is_transient
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.start import (
    SpawnServices,
    execute,
    prepare_worker,
    prepare_zygote,
)
from forkserve.supervision.zygotes.orders import ForkOrders
from forkserve.supervision.zygotes.promotions import Promotions
from forkserve.supervision.zygotes.standby import Standby
from forkserve.supervision.zygotes.state import ZygoteState
from forkserve.supervision.zygotes.waiting import WaitingWorkers
from forkserve.wording import reason_in

__all__ = ["Zygotes"]

YOUNG = 5.0
"""Seconds of being ready before which the loss of a zygote counts as a failure like the one before."""

_NOT_READY = "got no process: its zygote was not ready in time (ready_timeout)"

MOST_FAILURES = 3
"""Losses in a row after which a generation goes on without a zygote."""


class Zygotes:
    """The zygotes of one watcher; `command_of` returns the command of a generation, None if it was forgotten."""

    def __init__(
        self, services: SpawnServices, processes: Processes, command_of: Callable[[int], ProcessTemplate | None]
    ) -> None:
        self.states: list[ZygoteState] = []
        self._services = services
        self._processes = processes
        self._command_of = command_of
        self.standby = Standby(services, processes)
        self.promotions = Promotions(services, self._promoted)
        self._waiting = WaitingWorkers(services, processes, self.promotions.handed_over)
        self._orders = ForkOrders(services, processes, self._waiting)

    # What the watcher wants.

    def start(self, command: ProcessTemplate, wid: int, generation: int) -> Process:
        """Request a worker from the zygote of its generation; raises ForkserveError or OSError and leaves none."""
        state = self._of_generation(generation)
        if state is None:
            state = ZygoteState(generation=generation)
            self._begin(state, command)
            self.states.append(state)
        if state.given_up or not state.process:
            return self._processes.start(command, wid, generation)
        legacy = self._processes.legacy(wid, generation)
        process, resources, launch = prepare_worker(command, wid, self._services, legacy)
        process.forked_by = state.process
        if command.reforks:
            launch = self.promotions.offer(process, command, launch)
        self._waiting.launches[process.number] = launch
        self._processes.keep(process, resources)
        state.waiting.append(process.number)
        self._orders.send(state)
        return process

    @property
    def has_waiting(self) -> bool:
        """Whether a worker waits to be forked, because its zygote still imports or is forking."""
        return any(each.waiting for each in self.states)

    def call_off(self, process: Process) -> None:
        """Cancel a worker that is no longer needed, unless its zygote is forking it right now."""
        for state in self.states:
            if process.number in state.waiting and process.number != state.asked:
                state.waiting.remove(process.number)
                self._waiting.refuse(process, "cancelled before it was forked")

    def retire(self, needed: Collection[int], standby: Collection[int] = ()) -> None:
        """End the zygotes of all generations but these; those only in `standby` are kept while memory allows."""
        for state in (each for each in self.states if not each.retired):
            if state.generation in needed:
                self.standby.release(state)
            elif state.generation not in standby or not self.standby.is_ready(state):
                self._retire(state)
            elif state.standby is None:
                self._keep(state)
        self.states = [each for each in self.states if not each.retired or each.process]

    def _keep(self, state: ZygoteState) -> None:
        if not self.standby.allows(state):
            self._retire(state)

    def _retire(self, state: ZygoteState) -> None:
        """End a zygote, once it has forked what was ordered: that may serve before the master learns of it."""
        state.retired, state.retry = True, None
        for process in self._waiting.take_all(state, but=state.asked):
            self._waiting.refuse(process, "cancelled before it was forked")
        channel = self._orders.channels.of(state)
        if channel is not None:
            channel.end()
        zygote, command = self._processes.by_number.get(state.process), self._command_of(state.generation)
        if zygote is not None and command is not None and not zygote.is_asked_to_end:
            self._processes.stop(zygote, Stopping.of(command.options))

    def in_force(self, generation: int) -> ZygoteState | None:
        """Return the state of the zygote of a generation while it accepts orders."""
        state = self._of_generation(generation)
        return state if state is not None and self.standby.is_ready(state) else None

    def promote(self, process: Process) -> None:
        """Let a worker that is about to be stopped become the zygote of its generation, if it is the one."""
        state = self._of_generation(process.generation)
        if state is not None and state.promoting == process.number:
            self.promotions.order(process)

    def _promoted(self, process: Process, channel: ForkChannel) -> None:
        state = self._of_generation(process.generation)
        if state is None or state.promoting != process.number or not self._processes.promoted(process):
            channel.close()  # it ends
            return
        before = replace(state, waiting=[state.asked] if state.asked else [], promoting=0, moving=0)
        self._orders.channels.hand_on(state, before)
        self.states.append(before)
        state.waiting = [each for each in state.waiting if each != state.asked]
        state.process, state.promoting, state.asked, state.deadline = process.number, 0, 0, None
        state.reforks += 1
        self._orders.channels.listen(state, channel)
        self._retire(before)
        self._services.emit(ZygoteReforked(**process.names(), rounds=state.reforks))
        self._orders.send(state)
        self._processes.changed()

    # What happens.

    def hear(self, reaped: Collection[int]) -> None:
        """Read the answers that have arrived, before anything is said of pids that were reaped."""
        self._orders.hear(tuple(self.states), reaped)

    def became_ready(self, process: Process) -> None:
        """Called when a zygote has imported its application."""
        state = self._of_process(process)
        if state is not None:
            state.was_ready = True
            self._orders.send(state)

    def lost(self, process: Process, *, late: bool) -> bool:
        """Called when a zygote has been reaped; True if another is to take its place.

        `late` means that the master has killed it, since it was not ready in time.
        """
        state = self._of_process(process)
        if state is None:
            return False
        with Barrier(self._services.emit, f"the last words of {process}"):
            self._orders.channels.hush(state)
            self._orders.receive(state)
        self._orders.channels.drop(state)
        state.process, state.asked, state.deadline = 0, 0, None
        if state.retired or state.standby:
            self.states.remove(state)
            for each in self._waiting.take_all(state):
                self._waiting.refuse(each, "its zygote ended before it was forked")
            return False
        if not state.was_ready:
            self.states.remove(state)
            refusal = SpawnRefusal(errno.ETIMEDOUT, SpawnStage.FORK, _NOT_READY) if late else process.refusal
            for each in self._waiting.take_all(state):
                each.refusal, each.exit = refusal, process.exit and replace(process.exit, pid=0)
                self._waiting.call_off(each)
            return False
        return self._lost_later(state, process)

    def _lost_later(self, state: ZygoteState, process: Process) -> bool:
        now = self._services.loop.now()
        served, refusal = process.ready_for(now) or 0.0, process.refusal
        if (command := self._command_of(state.generation)) is not None and refusal and is_transient(refusal.number):
            self._try_later(state, command, refusal.text)
            return True
        state.failures = 1 if served >= YOUNG else state.failures + 1
        if command is None or state.failures > MOST_FAILURES:
            self._give_up(state, process.watcher, str(process.exit))
        elif state.failures > 1:
            delay = min(command.options.backoff * 2.0 ** (state.failures - 2), command.options.backoff_max)
            state.retry = Deadline.after(delay, DeadlineKind.RETRY, now)
            self._waiting.execute_all(state)
        else:
            self._again(state)
        return not state.given_up

    def _again(self, state: ZygoteState) -> None:
        state.retry = None
        command = self._command_of(state.generation)
        if command is None:
            return
        try:
            self._begin(state, command)
        except (ForkserveError, OSError) as error:
            if is_transient(errno_of(error)):
                self._try_later(state, command, reason_in(error))
            else:
                self._give_up(state, command.options.name, reason_in(error))

    def _try_later(self, state: ZygoteState, command: ProcessTemplate, reason: str) -> None:
        """Wait until the machine has what it lacks; workers that are requested meanwhile are executed."""
        delay = max(command.options.backoff, 1.0)
        state.retry = Deadline.after(delay, DeadlineKind.RETRY, self._services.loop.now())
        told = ZygoteDelayed(watcher=command.options.name, generation=state.generation, reason=reason, delay=delay)
        self._services.emit(told)
        self._waiting.execute_all(state)

    def _give_up(self, state: ZygoteState, watcher: str, reason: str) -> None:
        state.given_up = True
        self._services.emit(ZygoteGivenUp(watcher=watcher, generation=state.generation, reason=reason))
        self._waiting.execute_all(state)

    def _begin(self, state: ZygoteState, command: ProcessTemplate) -> None:
        """Execute a zygote; raises ForkserveError or OSError."""
        channel, theirs = ForkChannel.pair()
        legacy = self._processes.legacy(ZYGOTE_WID, state.generation)
        try:
            process, resources, launch = prepare_zygote(command, self._services, legacy, theirs.fileno())
            execute(process, resources, launch, self._services)
        except BaseException:
            channel.close()
            raise
        finally:
            theirs.close()
        state.process = process.number
        self._orders.channels.listen(state, channel)
        self._processes.keep(process, resources)

    def go_on(self) -> None:
        """Send an order if something waits and nothing is in progress, or start what is missing: a bug came in
        between.
        """
        self._orders.find_lost(self.states)
        for state in (each for each in tuple(self.states) if not each.retired and each.standby is None):
            state.waiting = [number for number in state.waiting if number in self._waiting.launches]
            if state.process not in self._processes.by_number and state.retry is None and not state.given_up:
                self._again(state)
            if state.asked not in state.waiting or state.deadline is None:
                state.asked = 0
            self._orders.send(state)

    def _of_generation(self, generation: int) -> ZygoteState | None:
        return next((each for each in self.states if each.generation == generation and not each.retired), None)

    def _of_process(self, process: Process) -> ZygoteState | None:
        return next((each for each in self.states if each.process == process.number), None)

    # Time.

    @property
    def next_instant(self) -> float | None:
        """The first instant at which something is due for one of them."""
        deadlines = (deadline for each in self.states for deadline in (each.deadline, each.retry, each.standby))
        return earliest(None if deadline is None else deadline.instant for deadline in deadlines)

    def acts(self, now: float) -> Iterator[tuple[str, Callable[[], None]]]:
        """Iterate over what is due; each deadline is cleared before it is acted on."""
        for state in tuple(self.states):
            if state.deadline is not None and state.deadline.is_due(now):
                state.deadline = None
                yield "a zygote that does not answer", partial(self._orders.unanswered, state)
            if state.retry is not None and state.retry.is_due(now):
                state.retry = None
                yield "the retry of a zygote", partial(self._again, state)
            if state.standby is not None and state.standby.is_due(now):
                yield "a look at the memory for a zygote on standby", partial(self._keep, state)

    # State.

    def restore(self, states: list[ZygoteState]) -> None:
        """Go on with zygotes of a former master; slots try again what waited for them."""
        self.states = states
        for state in states:
            self._orders.channels.restore(state)
            for process in self._waiting.take_all(state):
                self._waiting.refuse(process, "cancelled, since the master was replaced")
            state.asked, state.deadline = 0, None
        self.promotions.restore(self._processes)

    def close(self) -> None:
        """Release everything, when no zygote runs any more."""
        for state in self.states:
            with contextlib.suppress(OSError):
                self._orders.channels.drop(state)
