"""One command, and how many processes of it should run.

Theory of operation. The verbs change the target (`up`, `target`) or start a replacement, and return at once;
`population` then changes the slots. State is plain data: the slots, the processes, and the few attributes here. There
is one timer, for the earliest of all deadlines (`arm`); when it fires, everything due is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from functools import partial

from forkserve.config.model import WatcherOptions
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.deadline import earliest
from forkserve.supervision.events import Event, HookVetoed, WatcherWoken
from forkserve.supervision.generations.canary import CanaryWatch
from forkserve.supervision.generations.rehearsal import Rehearser
from forkserve.supervision.generations.templates import Templates
from forkserve.supervision.hooks.gate import HookGate
from forkserve.supervision.lifecycle import ProcessState, SlotState, SlotTrigger
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.process import Process
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.renewal import Renewal
from forkserve.supervision.slot import Slot
from forkserve.supervision.slots.deadlinetimer import Act, DeadlineTimer, acts_on_processes, acts_on_slots
from forkserve.supervision.slots.filling import STRETCH, SlotFiller
from forkserve.supervision.slots.population import Population
from forkserve.supervision.slots.queuedrainers import QueueDrainers
from forkserve.supervision.snapshot import Awaited
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.timers.timer import WatcherTimer

__all__ = ["Watcher"]


class Watcher:
    """The processes of one command. `up` means that it should run, `target` is the number of processes.

    `paused` means that SIGWINCH has stopped it; `resumes`, that a later reload starts it again; `awaits_start`, that
    its turn in the first start has not come yet; `vetoed` is why a hook has stopped it; `leaving` means that it is no
    longer configured; `broken`, that a bug keeps it from stopping: then only the kernel's list of children counts.
    `drain_until` is the end of the time for which it serves on before it stops, `hold_until` that of a pause,
    `hold_then` what follows it. `maintained` means that a responder answers in its place, `transient` that it is one.
    `awake` means that its slots are filled: with `on_demand` they are not until a connection waits.
    """

    def __init__(self, command: ProcessTemplate, services: SpawnServices, changed: Callable[[Watcher], None]) -> None:
        self.name = command.options.name
        self.templates = Templates({1: command})
        self.up = self.awaits_start = self.paused = self.resumes = self.leaving = self.broken = self.awake = False
        self.target = command.options.numprocesses
        self.drain_until: float | None = None
        self.hold_until: float | None = None
        self.hold_then = ""
        self.maintained = self.transient = False
        self.vetoed = ""
        self.gate = HookGate(services.call_hook, services.emit, self)
        self.population = Population(self.templates, services, self._notify, self.gate)
        self.filler = SlotFiller(self.population, services)
        self.rehearser = Rehearser(services, self.name, self._notify)
        self.timer = WatcherTimer(self.population, services, self._notify)
        self.renewal = Renewal(
            self.population, self.filler, self.timer, services, lambda: self.runs_beside(self.command)
        )
        self.queue_drainers = QueueDrainers(self.population)
        self.canary = CanaryWatch(self.processes, services.loop, self._notify)
        self.awaited: Callable[[], Awaited] = Awaited
        """What it must wait for before it starts."""
        self._services = services
        self._changed = changed
        self._deadlines = DeadlineTimer(services.loop, services.emit, self._acts, self._after_acts, stretch=STRETCH)

    def _notify(self) -> None:
        self._changed(self)

    def emit(self, event: Event) -> None:
        """Emit an event about it."""
        self._services.emit(event)

    @property
    def slots(self) -> dict[int, Slot]:
        """Its slots, by number from 1."""
        return self.population.slots

    @property
    def processes(self) -> Processes:
        """Its processes, including those told to stop."""
        return self.population.processes

    @property
    def command(self) -> ProcessTemplate:
        """The command of its next process."""
        return self.templates.in_force

    @property
    def options(self) -> WatcherOptions:
        """Its options in force."""
        return self.command.options

    @property
    def generation(self) -> int:
        """The number of the generation in force."""
        return self.templates.generation

    # How it looks.

    @property
    def is_gone(self) -> bool:
        """True when nothing of it runs."""
        return self.broken or (self._is_empty and self.gate.is_closed)

    @property
    def _is_empty(self) -> bool:
        return not (self.processes or self.processes.groups)

    @property
    def is_settled(self) -> bool:
        """True if every slot has reached its final state, until something happens."""
        if not self.up or self.is_waiting:
            return self.is_gone
        return self.has_started and (self.timer.exists or all(slot.is_settled for slot in self.slots.values()))

    @property
    def has_started(self) -> bool:
        """True if every slot has begun to serve, or will not; unlike `is_settled` also while some are renewed."""
        if not self.up or self.is_waiting:
            return self.is_gone
        return self._have_slots_started and self.gate.is_passed

    @property
    def _have_slots_started(self) -> bool:
        is_complete = len(self.slots) == self.target and all(slot.has_started for slot in self.slots.values())
        return is_complete or self.timer.exists

    @property
    def is_waiting(self) -> bool:
        """True while it runs nothing, and waits for a connection."""
        return self.up and not self.awake and self.command.is_on_demand

    def runs_beside(self, wanted: ProcessTemplate) -> bool:
        """Tell whether processes of another command may run beside the current ones."""
        return wanted.may_run_beside(self.options, self.target)

    # What jobs want.

    def start(self) -> None:
        """Run it; slots that are FATAL, in back-off or finished start again."""
        self.up, self.awaits_start, self.paused, self.vetoed = True, False, False, ""
        for slot in self.slots.values():
            slot.finished, slot.stopped, slot.served = False, False, 0
        self.revive()

    def revive(self) -> None:
        """Retry at once what had failed."""
        self.population.failures.outlook.code = None
        for slot in self.slots.values():
            if slot.state in (SlotState.BACKOFF, SlotState.FATAL):
                self.population.event(slot, SlotTrigger.RESET)
        self._fill()
        self._notify()

    def delay(self, seconds: float) -> None:
        """Serve on for this long before a requested stop."""
        if self.drain_until is None:
            self.drain_until = self._services.loop.now() + seconds
        self._notify()

    def hurry(self) -> None:
        """Shorten a stop: end the delay, and have stopping workers of ours tell their streams."""
        if self.drain_until is not None:
            self.drain_until = None
            self._notify()
        elif self.command.is_worker:
            told = ProcessState.DRAINING
            self.signal(self.options.stop_signal, only=lambda each: each.state is told and each.end_at is None)

    def stop(self, *, finish: bool = False, closing: bool = False) -> None:
        """Ask all its processes to stop; see `TakeDown`."""
        self.up = self.awaits_start = False
        self.population.held = self.maintained
        self.hold_until = None
        self.timer.end()
        if closing:
            self._services.seal(self.name, self.command.queues)
        if finish:
            self.processes.finish()
        self.rest()

    def wake(self) -> None:
        """Called when a connection waits for its first process."""
        if self.is_waiting:
            self.emit(WatcherWoken(watcher=self.name, processes=self.target))
            self.awake = True
            self._fill()
            self._notify()

    def rest(self) -> None:
        """Ask all its processes to stop; a watcher that is up then waits for a connection."""
        self.awake = False
        self.gate.lower()
        self.filler.warm_at = self.drain_until = None
        self.population.retire_zygotes(up=False)
        self.population.stop_all()
        self.timer.settle()
        self.advance_gate()
        self._notify()

    def kill(self) -> None:
        """End all its processes now."""
        self.stop()
        self.processes.kill_all()
        self.gate.abandon()

    def resize(self, target: int) -> None:
        """Keep this many processes; those of the highest slots stop first."""
        self.target = target
        surplus = sorted(wid for wid in self.slots if wid > target)
        self.processes.store.close(surplus)
        for wid in surplus:
            self.population.event(self.slots.pop(wid), SlotTrigger.WANT_DOWN)
        self._fill()
        self._notify()

    def offer(self, command: ProcessTemplate) -> int:
        """Store a command for a coming reload; returns its number."""
        return self.templates.offer(command)

    def adopt(self, command: ProcessTemplate) -> None:
        """Apply other options; running processes keep those that they were started with."""
        was_timer = self.timer.exists
        self.templates.adopt(command)
        self._follow_schedule(was_timer)

    def _follow_schedule(self, was_timer: bool) -> None:
        """Follow the current schedule; a watcher that has become a timer, or is no longer one, starts over."""
        begins_afresh = self.up and was_timer is not self.timer.exists
        if begins_afresh:
            self.stop()
        self.timer.follow()
        if begins_afresh:
            self.start()
        if not self.awake:  # a command may end the wait
            self._fill()

    def open_generation(self, offer: int, *, follow: bool = True, back_to: int = 0) -> None:
        """Make the offered command that of the next processes, forked by the kept zygote of generation `back_to`."""
        was_timer = self.timer.exists
        self.templates.open(offer, self.population.generations, follow=follow)
        if back_to:
            zygotes = self.population.zygotes
            zygotes.standby.recall(zygotes.states, back_to, self.generation)
        self._limit_singleton()
        self._follow_schedule(was_timer)

    def put_back(self, generation: int) -> None:
        """Make a former generation that of the next processes."""
        self.canary.end()
        self.population.put_back(generation)
        self._limit_singleton()

    def _limit_singleton(self) -> None:
        if self.options.singleton and self.target > 1:  # more were asked for while it was none
            self.resize(1)

    def rehearse(self, offer: int) -> None:
        """Try whether the offered command could be started."""
        self.rehearser.begin(self.templates.wanted(offer), offer)
        self._notify()

    def signal(self, signum: int, *, only: Callable[[Process], bool] = lambda _process: True) -> int:
        """Send a signal to its processes, and return how many got it."""
        return self.processes.signaller.signal([process for process in self.processes if only(process)], signum)

    def close(self) -> None:
        """Release its resources, when nothing of it runs any more."""
        self.rehearser.cancel()
        self.gate.abandon()
        self.processes.close()
        self.population.zygotes.close()
        self._deadlines.close()

    # What its hooks say.

    def advance_gate(self) -> None:
        """Ask the hooks what must be asked by now; called before its jobs are advanced."""
        served = None
        if self.up and self._have_slots_started:
            served = self.timer.exists or any(slot.is_ready or slot.finished for slot in self.slots.values())
        self.gate.advance(served=served, gone=self._is_empty)

    def ask_again(self) -> None:
        """Ask the hooks again what another program has asked them without getting an answer."""
        self.population.admission.ask_again()
        self.processes.signaller.ask_again()
        self.may_start()
        self._notify()

    def import_path(self) -> tuple[str, ...]:
        """Return the folders that its hooks are imported from."""
        return self.command.import_path()

    def may_start(self) -> None:
        """Called when before_start has consented."""
        self.filler.come_back_at(self._services.loop.now())

    def veto(self, reason: str) -> None:
        """Called when a hook has forbidden it to run: it stops, until someone starts it."""
        if self.up:
            self.vetoed = reason
            self.emit(HookVetoed(watcher=self.name, reason=reason, effect="it is stopped"))
            self.stop()

    def gate_moved(self) -> None:
        """Called after each answer of a hook."""
        self._notify()

    # What happens.

    def knows(self, pids: Set[int]) -> bool:
        """Tell whether one of the pids is that of a process of this watcher, or of a helper."""
        population = self.population
        return population.processes.has_any(pids) or self.rehearser.has_any(pids) or population.prober.has_any(pids)

    def record(self, exit_: Exit) -> Process | None:
        """Note that a pid has been reaped, before anything is done about it; returns the process."""
        with Barrier(self.emit, f"the helpers of {self.name}"):
            self.rehearser.record(exit_)
            self.population.prober.reaped(exit_.pid)
        process = self.processes.record(exit_)
        if process is not None:
            self._notify()
        return process

    def handle_exit(self, process: Process) -> None:
        """Handle an exit that was recorded; a bug in that affects only this process."""
        with Barrier(self.emit, f"the end of {process}"):
            self.population.exited(process)
            self.timer.exited(process)
            return
        with Barrier(self.emit, f"the end of {process}"):
            self.population.forget(process)

    def forget_ended_groups(self) -> None:
        """Forget the process groups that have ended; called after every reaping."""
        if self.processes.groups.forget_ended():
            self._notify()

    def _fill(self) -> None:
        """Fill vacant slots, the lowest first, as fast as `warmup_delay` and the other events allow."""
        if not self.up or self.is_waiting:
            return
        self.awake = True
        if not self.gate.lift():
            return
        if self.timer.exists:
            self.timer.begin()
            return
        self.filler.fill(self.target)

    # Time.

    @property
    def next_instant(self) -> float | None:
        """The first instant at which something must be done; None if there is none."""
        retries = (slot.retry.instant for slot in self.slots.values() if slot.retry is not None)
        own = (self.processes, self.population.zygotes, self.rehearser, self.canary, self.timer)
        return earliest((*retries, self.filler.warm_at, self.drain_until, *(each.next_instant for each in own)))

    def arm(self) -> None:
        """Release what is no longer needed, and set the timer for the first instant; called after every event."""
        self.population.retire_zygotes(up=self.up and self.awake)
        if self.up and self.awake and self.is_settled:
            self.population.refork()
        if self.templates.has_more:
            self.templates.prune(self.population.generations)
        self._deadlines.arm(self.next_instant)

    def _after_acts(self) -> None:
        self.forget_ended_groups()
        self._notify()

    def _acts(self, now: float) -> Iterator[Act]:
        """Iterate over what is due; each deadline is cleared before it is acted on, so that a bug does not repeat at
        once.
        """
        yield from self.population.zygotes.acts(now)
        yield from acts_on_processes(self.population, now, ended=self.handle_exit, aged=self.renewal.too_old)
        yield from self.processes.groups.acts(now)
        yield from acts_on_slots(self.population, now)
        if self.drain_until is not None and self.drain_until <= now:
            self.drain_until = None
        yield f"the rehearsal of {self.name}", partial(self.rehearser.due, now)
        yield f"the canary of {self.name}", partial(self.canary.due, now)
        yield from self.timer.acts(now)
        if self.filler.is_due(now):
            yield f"the starts of {self.name}", self._fill
