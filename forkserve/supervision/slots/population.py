"""The slots of a watcher and the processes in them: which is where, which died, which comes next.

Theory of operation. An event of a process (an exit, a report, a message, a deadline) arrives here. Its meaning for the
slot comes from the slot's table in `lifecycle`, and the effects are carried out here. After anything that a job may
wait for, `changed` is called.

A slot has an occupant. During a replacement it also has a candidate, which becomes the occupant when it is ready, and
is dropped when it fails. A process that has been told to stop belongs to no slot any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from forkserve.config.handover import WARM
from forkserve.config.model import WatcherOptions
from forkserve.config.naming import own_name
from forkserve.errors import ForkserveError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.events import (
    Consequence,
    Event,
    NotifyRefused,
    ProbeRefused,
    ProcessReady,
    ProcessSaid,
    SpawnFailed,
)
from forkserve.supervision.events.process import ProcessLost
from forkserve.supervision.generations.templates import Templates
from forkserve.supervision.hooks.gate import HookGate
from forkserve.supervision.lifecycle import (
    SLOT,
    Death,
    Effect,
    SlotState,
    SlotTrigger,
    Tally,
    Verdict,
    step,
)
from forkserve.supervision.process import Process, Stopping
from forkserve.supervision.processes.deaths import (
    comes_again,
    death_of,
    errno_of,
    fact_of,
    failed_start,
    is_expected,
    reason_of,
)
from forkserve.supervision.processes.notifications import begin_watchdog, hear, read
from forkserve.supervision.processes.probing import Prober
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.slot import Slot
from forkserve.supervision.slots.failures import FailureTracker
from forkserve.supervision.slots.spawngate import SpawnGate
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.zygotes.reforking import next_slot
from forkserve.supervision.zygotes.zygotes import Zygotes
from forkserve.unix.notify import Message
from forkserve.wording import reason_in

__all__ = ["Population"]


class Population:
    """The slots by number, and all processes of a watcher.

    `restarts` counts the processes that were lost and replaced; `held` means that its processes must not accept for
    now.
    """

    def __init__(
        self, templates: Templates, services: SpawnServices, changed: Callable[[], None], gate: HookGate
    ) -> None:
        self.templates = templates
        self.slots: dict[int, Slot] = {}
        self.processes = Processes(services, self, gate)
        self.admission = SpawnGate(gate, self.slots, self._start, self._not_started, changed)
        self.zygotes = Zygotes(services, self.processes, lambda number: self.templates.by_generation.get(number))
        self.restarts = 0
        self.prober = Prober(services, self.ready, changed)
        self.failures = FailureTracker(lambda: self.templates, self.processes, services.emit, changed)
        self.held = False
        self._services = services
        self._changed = changed

    @property
    def _options(self) -> WatcherOptions:
        return self.templates.in_force.options

    def emit(self, event: Event) -> None:
        """Emit an event about them."""
        self._services.emit(event)

    def exited(self, process: Process) -> None:
        """Handle the end of one of its processes, which has been reaped."""
        now = self._services.loop.now()
        self.processes.channels.confirm(process)
        self.prober.forget(process)
        self.admission.tell_reaped(process)
        killed_by_us, was_ready = process.is_asked_to_end, process.is_ready
        self.processes.bury(process, Stopping.of(self._options))
        self.zygotes.promotions.forget(process)
        slot = self.slots.get(process.wid)
        lost = fact_of(process, now)
        if process.is_zygote:
            again = self.zygotes.lost(process, late=killed_by_us)
            self.failures.report(lost, Consequence.RESTART if again else Consequence.NONE)
            self._changed()
            return
        if slot is not None and slot.candidate is process:
            slot.candidate = None
            self.failures.count_crash(process)
            self.failures.record(lost.text(), process.generation)
            self.failures.report(lost, Consequence.PREDECESSOR_STAYS)
        elif slot is not None and slot.occupant is process and slot.stops_first and comes_again(self._options):
            slot.occupant, slot.stops_first = None, False
            self.failures.report(lost, Consequence.SUCCESSOR_STARTS)
            self.event(slot, SlotTrigger.LOST)
        elif slot is not None and slot.occupant is process:
            slot.occupant = None
            self.failures.count_crash(process)
            death = death_of(process, was_ready=was_ready, killed_by_us=killed_by_us, runs=slot.runs, now=now)
            death = replace(death, expected=is_expected(process, self._options) and not process.refusal)
            if self.templates.in_force.says_ready and process.exit is not None and process.refusal is None:
                death = replace(death, code=self.failures.outlook.code_of(process.exit.code))
            self._lost(slot, lost, death)
        else:
            self.failures.report(lost, Consequence.NONE)
        self._changed()

    def forget(self, process: Process) -> None:
        """Go on without a reaped process whose end a bug has kept from being handled."""
        self.processes.forget(process)
        slot = self.slots.get(process.wid)
        if slot is not None:
            slot.drop(process)
            self.mend(slot)
        self._changed()

    def mend(self, slot: Slot) -> None:
        """Make a slot match its state, after a bug: fill it, or try again."""
        known = self.processes.by_number
        slot.occupant = slot.occupant if slot.occupant is not None and slot.occupant.number in known else None
        slot.candidate = slot.candidate if slot.candidate is not None and slot.candidate.number in known else None
        if slot.occupant is not None:
            slot.state, slot.retry = SlotState.FILLED, None
        elif slot.asking:  # a hook is asked, and its answer fills it
            return
        elif slot.state is SlotState.FILLED or (slot.state is SlotState.BACKOFF and slot.retry is None):
            slot.state = SlotState.BACKOFF
            slot.retry = self._after(max(self._options.backoff, 1.0), DeadlineKind.RETRY)

    def on_started(self, process: Process) -> None:
        """Called when the program of a process runs: its time to be ready begins."""
        slot = self.slots.get(process.wid)
        if slot is not None:
            slot.runs += 1
        self.templates.note_folder(process.generation, process.folder)
        if process.is_asked_to_end:
            return
        self.admission.tell_started(process)
        self.expect(process)
        self._changed()

    def expect(self, process: Process) -> None:
        """Set the deadline for the readiness of a process whose program runs."""
        slot, options = self.slots.get(process.wid), self._options
        command = self.templates.in_force
        is_probed = not process.is_zygote and command.options.ready is not None
        probe = command.probe_of(process.wid, process.circus_wid) if is_probed else None
        if probe is not None and (wrong := self.prober.begin(process, probe)):
            self.emit(ProbeRefused(**process.names(), reason=wrong))
        if command.says_ready or command.options.ready is not None:
            if options.ready_timeout > 0:
                process.deadline = self._after(options.ready_timeout, DeadlineKind.READY)
        else:
            patience = options.ready_after if slot is None else slot.patience(options)
            process.deadline = self._after(patience, DeadlineKind.SETTLE)

    def on_unstarted_end(self, process: Process) -> None:
        """Called when a process is to end that its zygote has not forked yet."""
        self.zygotes.call_off(process)

    def on_changed(self) -> None:
        """Called when something is soon due for one of them."""
        self._changed()

    @property
    def generations(self) -> frozenset[int]:
        """The generations of its processes, and of the zygotes that are to come back."""
        return frozenset(each.generation for each in (*self.processes, *self.zygotes.states))

    def retire_zygotes(self, *, up: bool) -> None:
        """End the zygotes that no slot needs any more."""
        occupants = (process for slot in self.slots.values() for process in (slot.occupant, slot.candidate))
        needed = {process.generation for process in occupants if process is not None} | {self.templates.generation}
        standby = self.templates.served if self._options.standby else ()
        self.zygotes.retire(needed if up else (), standby if up else ())

    def refork(self) -> None:
        """Give a slot its next step towards a reforked zygote; all slots are settled."""
        state = self.zygotes.in_force(self.templates.generation)
        if state is None or not self.templates.in_force.reforks:
            return
        wid = next_slot(
            state,
            self.slots,
            alive=self.processes.by_number.__contains__,
            pss_of=self._services.kernel.pss_of,
            emit=self.emit,
        )
        if wid is not None:
            self.admission.spawn(self.slots[wid], beside=True)

    def on_said(self, process: Process, message: Message) -> None:
        """Called when a process has sent a message of sd_notify(3)."""
        self.emit(ProcessSaid(**process.names(), fields=tuple(message.items())))
        said = read(message)
        hear(process, said, self._services.loop.now())
        process.warm = process.warm or message.get(WARM) == "1"
        refused = self.processes.store.take(process.wid, message, message.fds, self._options.fdstore_max)
        if said.main_pid is not None:
            refused = refused or self.processes.claim(process, said.main_pid)
        if refused and process.is_news(refused):
            self.emit(NotifyRefused(**process.names(), reason=refused))
        if said.ready and self._options.ready is None:
            process.said_ready = True
            if process.wid in self.slots:
                self.slots[process.wid].spoke = self._options.cmd
            self.ready(process)
        self._changed()

    def ready(self, process: Process) -> None:
        """Note that a process serves; a candidate takes its place."""
        if not self.processes.become_ready(process):
            return
        after = self._services.loop.now() - process.started_at
        self.emit(ProcessReady(**process.names(), after=after, said=process.said_ready))
        if process.is_zygote:
            self.zygotes.became_ready(process)
            return
        self.failures.outlook.was_ready = True
        begin_watchdog(process, self._options.watchdog, self._services.loop.now())
        slot = self.slots.get(process.wid)
        if slot is not None and slot.candidate is process:
            self.succeed(slot)
        if slot is not None:
            slot.note_ready(process)
        self._changed()

    def succeed(self, slot: Slot) -> None:
        """Put the candidate of a slot, which serves, in the place of the occupant."""
        self.event(slot, SlotTrigger.REPLACED, predecessor=slot.seat_candidate())

    def _lost(self, slot: Slot, lost: ProcessLost, death: Death) -> None:
        """Decide what follows when the occupant has died unrequested; a starting candidate takes its place."""
        slot.reason = reason_of(lost)
        if slot.candidate is not None:
            slot.seat_candidate()
            self.failures.report(lost, Consequence.SUCCESSOR_SERVES)
            return
        self._judge(slot, lost, death)

    def _judge(self, slot: Slot, lost: ProcessLost, death: Death) -> None:
        verdict = self.failures.judge(slot, lost, death)
        self.event(slot, verdict.event, verdict=verdict)

    def _not_started(self, slot: Slot, error: ForkserveError | OSError) -> None:
        generation = self.templates.generation_of(slot.wid)
        lost = SpawnFailed(
            watcher=self._options.name,
            process=own_name(self._options, slot.wid),
            wid=slot.wid,
            pid=0,
            generation=generation,
            reason=reason_in(error),
        )
        slot.reason = reason_of(lost)
        if slot.occupant is not None:
            self.failures.record(lost.text(), generation)
            self.failures.report(lost, Consequence.PREDECESSOR_STAYS)
        else:
            self._judge(slot, lost, failed_start(errno_of(error), slot.runs))

    def event(
        self, slot: Slot, event: SlotTrigger, *, verdict: Verdict | None = None, predecessor: Process | None = None
    ) -> None:
        """Take a step of a slot's table and carry out its effects."""
        slot.state, effects = step(SLOT, slot.state, event)
        for effect in effects:
            if effect is Effect.SPAWN:
                self._occupy(slot, again=event in (SlotTrigger.LOST, SlotTrigger.DUE))
            elif effect is Effect.STOP_OCCUPANT:
                self._vacate(slot)
            elif effect is Effect.STOP_PREDECESSOR and predecessor is not None:
                if not self._services.hold(predecessor):
                    self.zygotes.promote(predecessor)
                    self.stop(predecessor)
            elif effect is Effect.ARM and verdict is not None:
                slot.retry = self._after(verdict.delay, DeadlineKind.RETRY)
            elif effect is Effect.DISARM:
                slot.retry = None
            elif effect is Effect.CLEAR_TALLY:
                slot.tally = Tally()

    def _occupy(self, slot: Slot, *, again: bool) -> None:
        if again:
            slot.restarts += 1
            self.restarts += 1
        self.admission.spawn(slot)

    def _vacate(self, slot: Slot) -> None:
        for process in (slot.occupant, slot.candidate):
            if process is not None:
                self.stop(process)
        slot.occupant, slot.candidate, slot.served = None, None, 0
        slot.asking = slot.asking_beside = False

    def stop(self, process: Process) -> None:
        """Ask a process to stop, as the current options say."""
        self.prober.forget(process)
        self.processes.stop(process, Stopping.of(self._options))

    def stop_all(self) -> None:
        """Ask all processes to stop, and vacate the slots; a bug affects one slot."""
        slots = tuple(self.slots.values())
        self.slots.clear()
        for slot in slots:
            with Barrier(self.emit, f"the stop of {self._options.name}[{slot.wid}]"):
                self.event(slot, SlotTrigger.WANT_DOWN)
        for process in self.processes:  # those that belong to no slot any more, and are kept for a queue
            if not process.is_asked_to_end:
                self.stop(process)

    def end(self, pids: Iterable[int], signum: int | None, timeout: float | None) -> None:
        """Ask some processes to end, and replace them when they have; None means as configured."""
        usual = Stopping.of(self._options)
        stopping = replace(usual, signum=signum or usual.signum, timeout=usual.timeout if timeout is None else timeout)
        for process in filter(None, map(self.processes.find, pids)):
            slot = self.slots.get(process.wid)
            if slot is not None and slot.occupant is process:
                slot.stops_first = True
            self.processes.stop(process, stopping)
        self._changed()

    def put_back(self, generation: int) -> None:
        """Make a former generation that of the next processes, and cancel those of others that do not serve yet."""
        self.templates.put_back(generation)
        for slot in self.slots.values():
            candidate, occupant = slot.candidate, slot.occupant
            slot.asking = slot.asking and not slot.asking_beside
            slot.asking_beside = False
            if candidate is not None and candidate.generation != generation:
                slot.candidate = None
                self.stop(candidate)
            if occupant is not None and occupant.generation != generation and occupant.ready_at is None:
                self.stop_first(slot)

    def stop_first(self, slot: Slot) -> None:
        """Stop the occupant of a slot, and fill the slot when it has ended."""
        if slot.occupant is not None and not slot.occupant.is_asked_to_end:
            slot.stops_first, slot.served = True, 0
            self.stop(slot.occupant)

    def abandon(self) -> int:
        """Leave all processes running, and forget them; returns their number."""
        self.slots.clear()
        processes = [process for process in self.processes if process.is_alive]
        for process in self.processes:
            self.processes.forget(process)
        return len(processes)

    def _start(self, slot: Slot) -> Process | None:
        """Request a process for a slot; None if that fails, which the slot has noted."""
        try:
            generation = self.templates.generation_of(slot.wid)
            command = self.templates.by_generation[generation]
            start = self.zygotes.start if command.is_preloaded else self.processes.start
            process = start(command, slot.wid, generation)
        except (ForkserveError, OSError) as error:
            self._not_started(slot, error)
            return None
        if self.held:
            self.processes.hold(process, wanted=True)
        options = self._options
        if options.schedule is not None:
            if options.run_timeout > 0:
                process.age_at = self._services.loop.now() + options.run_timeout
        elif options.max_age > 0:
            age = options.max_age + self._services.random() * options.max_age_variance
            process.age_at = self._services.loop.now() + age
        return process

    def _after(self, timeout: float, kind: DeadlineKind) -> Deadline:
        return Deadline.after(timeout, kind, self._services.loop.now())
