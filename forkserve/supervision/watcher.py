"""One command and the slots that keep it running: wants against haves.

Theory of operation. The verbs change the wish (`up`, `target`) or start a replacement, and return at once. What happens
comes in as events (`exited`, `said`, timers); each event of a slot goes through its table in `lifecycle`, and the
effects are carried out here. After anything that may matter to whoever waits, `changed` is called.

A slot has an occupant. During a replacement it also has a candidate, which becomes the occupant when it is ready, and
is dropped when it fails. A process that has been told to stop belongs to no slot any more.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from forkserve.config.model import WatcherOptions
from forkserve.errors import ForkserveError
from forkserve.supervision.command import Command
from forkserve.supervision.lifecycle import (
    FINAL,
    SLOT,
    Death,
    Effect,
    SlotEvent,
    SlotState,
    Tally,
    Verdict,
    judge,
    step,
)
from forkserve.supervision.os.loop import Timer
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import SpawnError
from forkserve.supervision.plan import Sight
from forkserve.supervision.process import Leftovers, Process, spoken
from forkserve.supervision.slot import Outlook, Slot
from forkserve.supervision.snapshot import WatcherState, WatcherView, watcher_state
from forkserve.supervision.spawning import Ground, policy_of, start, stopping_of
from forkserve.unix.scoreboard import Scoreboard

__all__ = ["Watcher"]

log = logging.getLogger("forkserve.watcher")

_AT_A_TIME = 0.02
"""Seconds of starting processes at a stretch; then whatever else has happened has its turn."""

_SHORT_OF = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""A start that fails so says nothing about the program: it is tried until the machine has what it lacks."""


class Watcher:
    """The processes of one command. `up` is the wish that it runs, `target` how many of it."""

    def __init__(self, command: Command, ground: Ground, changed: Callable[[Watcher], None]) -> None:
        self.command = command
        self.up = False
        self.target = command.options.numprocesses
        self.generation = 1
        self.restarts = 0
        self.failures = 0
        """Counts early deaths and failed starts of the present generation, for a reload to notice."""
        self.last_failure = ""
        self.slots: dict[int, Slot] = {}
        self.processes: dict[int, Process] = {}
        self.leftovers: list[Leftovers] = []
        self._ground = ground
        self._changed = changed
        self._not_before = 0.0
        self._warming: Timer | None = None
        self._board = Scoreboard()
        self.outlook = Outlook()

    @property
    def name(self) -> str:
        """Its name as configured."""
        return self.options.name

    @property
    def options(self) -> WatcherOptions:
        """Its options in force."""
        return self.command.options

    @property
    def is_gone(self) -> bool:
        """True when nothing of it runs."""
        return not (self.processes or self.leftovers)

    @property
    def is_settled(self) -> bool:
        """True when every slot is what it will be, until something happens."""
        if not self.up:
            return self.is_gone
        return len(self.slots) == self.target and all(slot.is_settled for slot in self.slots.values())

    @property
    def state(self) -> WatcherState:
        """What it is doing, computed."""
        slots = self.slots.values()
        return watcher_state(
            up=self.up,
            slots=[(slot.state, slot.is_ready) for slot in slots],
            processes=len(self.processes) + len(self.leftovers),
            finished=bool(slots) and all(slot.finished for slot in slots),
        )

    def view(self) -> WatcherView:
        """Return a picture of now, processes in order of slot and age."""
        now = self._ground.loop.now()
        restarts = {slot.wid: slot.restarts for slot in self.slots.values()}
        ordered = sorted(self.processes.values(), key=lambda each: (each.identity.wid, each.started_at))
        return WatcherView(
            name=self.name,
            state=self.state,
            numprocesses=self.target,
            restarts=self.restarts,
            generation=self.generation,
            processes=tuple(each.view(restarts.get(each.identity.wid, 0)) for each in ordered),
            slots=tuple(slot.view(now) for _, slot in sorted(self.slots.items())),
            options=self.options,
        )

    def raise_up(self) -> None:
        """Run it; slots that had given up, pause or have finished begin afresh."""
        self.up = True
        for slot in self.slots.values():
            slot.finished = False
        self.revive()

    def revive(self) -> None:
        """Try again at once what had failed."""
        self.outlook.code = None
        for slot in self.slots.values():
            if slot.state in (SlotState.BACKOFF, SlotState.FATAL):
                self._event(slot, SlotEvent.RESET)
        self._fill()
        self._changed(self)

    def take_down(self) -> None:
        """Ask all its processes to stop."""
        self.up = False
        if self._warming is not None:
            self._warming.cancel()
            self._warming = None
        for slot in self.slots.values():
            self._event(slot, SlotEvent.WANT_DOWN)
        self.slots.clear()
        self._changed(self)

    def kill(self) -> None:
        """End all its processes now."""
        self.take_down()
        for process in self.processes.values():
            process.kill()
        for each in self.leftovers:
            each.kill()

    def resize(self, target: int) -> None:
        """Keep this many processes; those of the highest slots stop first."""
        self.target = target
        for wid in sorted(wid for wid in self.slots if wid > target):
            self._event(self.slots.pop(wid), SlotEvent.WANT_DOWN)
        self._fill()
        self._changed(self)

    def adopt(self, command: Command) -> None:
        """Take over other options; what runs keeps those that it was started with."""
        self.command = command

    def close(self) -> None:
        """Give up what it holds, when nothing of it runs any more."""
        self._board.close()

    def sights(self) -> list[Sight]:
        """Return the slots as a reload sees them."""
        return [slot.sight() for slot in self.slots.values()]

    def replace(self, wid: int) -> None:
        """Start a candidate for a slot, unless `warmup_delay` lets us wait."""
        slot = self.slots[wid]
        if slot.candidate is None and self._may_spawn():
            slot.candidate = self._spawn(slot)

    def signal(self, signum: int, *, only: Callable[[Process], bool] = lambda _process: True) -> int:
        """Send a signal to its processes, and return how many got it."""
        chosen = [process for process in self.processes.values() if only(process)]
        for process in chosen:
            process.signal(signum)
        return len(chosen)

    def exited(self, exit_: Exit) -> None:
        """One of its processes has been reaped."""
        process = self.processes.pop(exit_.pid)
        killed_by_us, was_ready = process.is_asked_to_end, process.is_ready
        process.exited()
        self._end_leftovers(process, killed=killed_by_us and exit_.signum == 9)
        slot = self.slots.get(process.identity.wid)
        how = f"{exit_} after {spoken(process.uptime)}"
        if slot is not None and slot.candidate is process:
            slot.candidate = None
            self._failed(f"{process} {how}", process.generation)
            log.warning("%s %s; its predecessor stays", process, how)
        elif slot is not None and slot.occupant is process and slot.makes_way and self.options.respawn:
            slot.occupant, slot.makes_way = None, False
            log.info("%s %s; its successor starts", process, how)
            self._event(slot, SlotEvent.LOST)
        elif slot is not None and slot.occupant is process:
            slot.occupant = None
            code = self.outlook.code_of(exit_.code) if self.command.says_ready else None
            self._lost(slot, process, how, Death(was_ready, None if killed_by_us else exit_.signum, code=code))
        else:
            log.info("%s %s", process, how)
        self._changed(self)

    def said(self, process: Process, fields: dict[str, str]) -> None:
        """One of its processes has sent a message of sd_notify(3)."""
        process.status = fields.get("STATUS", process.status)
        if fields.get("READY") == "1":
            process.said_ready = True
            if process.identity.wid in self.slots:
                self.slots[process.identity.wid].spoke = self.options.cmd
            self._ready(process)

    def look_after_leftovers(self) -> None:
        """Forget the process groups that have ended; called after every reaping."""
        gone = [each for each in self.leftovers if each.are_gone]
        for each in gone:
            self.leftovers.remove(each)
            self._ground.ended(each.pgid)
        if gone:
            self._changed(self)

    def _end_leftovers(self, process: Process, *, killed: bool) -> None:
        each = Leftovers(
            process, stopping_of(self.options), killed=killed, loop=self._ground.loop, on_gone=self.look_after_leftovers
        )
        if each.are_gone:
            self._ground.ended(each.pgid)
        else:
            self.leftovers.append(each)

    def _ready(self, process: Process) -> None:
        if not process.became_ready():
            return
        self.outlook.was_ready = True
        level = logging.INFO if process.said_ready else logging.DEBUG
        log.log(level, "%s is ready after %s", process, spoken(process.uptime))
        slot = self.slots.get(process.identity.wid)
        if slot is not None and slot.candidate is process:
            predecessor, slot.occupant, slot.candidate = slot.occupant, process, None
            self._event(slot, SlotEvent.REPLACED, predecessor=predecessor)
        self._changed(self)

    def _lost(self, slot: Slot, process: Process, how: str, death: Death) -> None:
        """Decide what follows when the occupant has died unasked; a candidate that is under way takes its place."""
        slot.reason = how
        if slot.candidate is not None:
            slot.occupant, slot.candidate = slot.candidate, None
            log.warning("%s %s; %s takes its place", process, how, slot.occupant)
            return
        self._carry_out(slot, f"{process} {how}", death, process.generation)

    def _carry_out(self, slot: Slot, what: str, death: Death, generation: int) -> None:
        policy = policy_of(self.options)
        verdict = judge(policy, slot.tally, death)
        slot.tally = verdict.tally
        if verdict.event is SlotEvent.FINISHED:
            slot.finished = True
            log.info("%s; it is not to be restarted (respawn is off)", what)
        elif verdict.event is SlotEvent.LOST:
            log.warning("%s; restarting", what)
        elif verdict.event is SlotEvent.LOST_EARLY:
            self._failed(what, generation)
            count = f" ({verdict.tally.failed} of {policy.max_retry})" if not death.transient else ""
            log.warning("%s; restart in %g s%s", what, verdict.delay, count if policy.max_retry >= 0 else "")
        else:
            self._failed(what, generation)
            count = f" after {verdict.tally.failed} failed starts in a row" if verdict.tally.failed > 1 else ""
            if self.outlook.code is None:
                log.error("%s; given up%s: mend it, then `forkservectl start %s`", what, count, self.name)
                self._give_up(death)
        self._event(slot, verdict.event, verdict=verdict)

    def _give_up(self, death: Death) -> None:
        """When no other try can help, end those that are on their way to the same end, so that it is told once."""
        if death.code in FINAL:
            self.outlook.code = death.code
            for process in self.processes.values():
                process.kill()

    def _failed(self, what: str, generation: int) -> None:
        if generation == self.generation:
            self.failures += 1
        if self.outlook.code is None:
            self.last_failure = what
        self._changed(self)

    def _event(
        self, slot: Slot, event: SlotEvent, *, verdict: Verdict | None = None, predecessor: Process | None = None
    ) -> None:
        slot.state, effects = step(SLOT, slot.state, event)
        for effect in effects:
            if effect is Effect.SPAWN:
                self._occupy(slot, again=event in (SlotEvent.LOST, SlotEvent.DUE))
            elif effect is Effect.STOP_OCCUPANT:
                self._vacate(slot)
            elif effect is Effect.STOP_PREDECESSOR and predecessor is not None:
                self._stop(predecessor)
            elif effect is Effect.ARM and verdict is not None:
                slot.retry = self._ground.loop.call_later(verdict.delay, lambda: self._event(slot, SlotEvent.DUE))
            elif effect is Effect.DISARM and slot.retry is not None:
                slot.retry.cancel()
            elif effect is Effect.CLEAR_TALLY:
                slot.tally = Tally()

    def _occupy(self, slot: Slot, *, again: bool) -> None:
        if again:
            slot.restarts += 1
            self.restarts += 1
        slot.occupant = self._spawn(slot)

    def _vacate(self, slot: Slot) -> None:
        for process in (slot.occupant, slot.candidate):
            if process is not None:
                self._stop(process)
        slot.occupant = slot.candidate = None

    def _stop(self, process: Process) -> None:
        process.stop(stopping_of(self.options))

    def _fill(self) -> None:
        """Fill what is vacant, lowest slot first, as fast as `warmup_delay` and the other events allow."""
        if not self.up:
            return
        enough = self._ground.loop.now() + _AT_A_TIME
        for wid in range(1, self.target + 1):
            slot = self.slots.get(wid)
            if slot is not None and (slot.state is not SlotState.VACANT or slot.finished):
                continue
            if self.outlook.code is not None:
                self.slots[wid] = Slot(wid, SlotState.FATAL, reason="not tried, since the first cannot start")
                continue
            if not self._may_spawn():
                return
            self._event(self.slots.setdefault(wid, Slot(wid)), SlotEvent.WANT_UP)
            if self._ground.loop.now() > enough:
                self._come_back_at(enough)
                return

    def _may_spawn(self) -> bool:
        """Tell whether it is time for the next start; if not, come back when it is."""
        now = self._ground.loop.now()
        if now >= self._not_before:
            self._not_before = now + self.options.warmup_delay
            return True
        self._come_back_at(self._not_before)
        return False

    def _come_back_at(self, instant: float) -> None:
        if self._warming is None:
            self._warming = self._ground.loop.call_at(instant, self._warm)

    def _warm(self) -> None:
        self._warming = None
        self._fill()
        self._changed(self)

    def _spawn(self, slot: Slot) -> Process | None:
        """Start a process for a slot; when that fails the slot has taken note, and there is none."""
        try:
            process = start(self.command, slot.wid, self._ground, generation=self.generation, board=self._board)
        except (ForkserveError, OSError) as error:
            self._not_started(slot, f"{self.name}[{slot.wid}] {error}", error)
            return None
        self.processes[process.pid] = process
        slot.runs += 1
        options = self.options
        process.listen(lambda fields: self.said(process, fields))
        if self.command.says_ready:
            process.must_be_ready_within(options.ready_timeout)
        else:
            process.counts_as_ready_after(slot.patience(options), lambda: self._ready(process))
        if options.max_age > 0:
            age = options.max_age + self._ground.random() * options.max_age_variance
            process.ages(age, lambda: self._too_old(process))
        return process

    def _not_started(self, slot: Slot, what: str, error: ForkserveError | OSError) -> None:
        slot.reason = str(error)
        if slot.occupant is not None:
            self._failed(what, self.generation)
            log.warning("%s; its predecessor stays", what)
            return
        number = error.number if isinstance(error, SpawnError) else getattr(error, "errno", 0)
        transient = number in _SHORT_OF
        death = Death(was_ready=False, transient=transient, impossible=not transient and slot.runs == 0)
        self._carry_out(slot, what, death, self.generation)

    def _too_old(self, process: Process) -> None:
        """Replace a process that has reached its age; when the replacement fails, try again later."""
        slot = self.slots.get(process.identity.wid)
        if slot is None or slot.occupant is not process or process.is_asked_to_end:
            return
        log.info("%s is %s old (max_age): replacing it", process, spoken(process.uptime))
        if not self.command.runs_side_by_side:
            slot.makes_way = True
            self._stop(process)
        else:
            self.replace(slot.wid)
            process.ages(max(self.options.backoff_max, 1.0), lambda: self._too_old(process))
