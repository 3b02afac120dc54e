"""A timer: starts the process of its watcher when the schedule says so, and records how each run ends.

Theory of operation. A watcher with a `schedule` fills no slots. While it is up, its timer checks the clock when the
next run is due, and at least every `BOUND` seconds, since nothing announces that the clock was set or that the machine
has slept; `timetable` decides what is to be done. A run takes the lowest free slot, and returns it when its process has
ended. It is over when nothing of its slot is alive and no retry is pending.

Rules: it decides nothing that `timetable` or the slots' table can decide. Its state is plain data (`runs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo

from forkserve.config.model import WatcherOptions
from forkserve.config.schedules import Overlap
from forkserve.supervision.events import ClockSetBack, RunBegun, RunEnded, RunSkipped, RunsMissed, RunTimedOut
from forkserve.supervision.lifecycle import SlotState, SlotTrigger
from forkserve.supervision.os.wallclock import zone_of
from forkserve.supervision.process import Process
from forkserve.supervision.slot import Slot
from forkserve.supervision.slots.population import Population
from forkserve.supervision.snapshot import RunCause, RunResult, TimerSnapshot, TimerView
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.timers.runs import KEPT, TimerRun, TimerState
from forkserve.supervision.timers.timetable import DueRuns, due_runs

__all__ = ["MOST", "WatcherTimer"]

BOUND = 30.0
"""Most seconds between two checks of the clock."""
MOST = 100
"""Most runs at once, where they may overlap."""


class WatcherTimer:
    """The timer of one watcher; a watcher without a schedule has an inactive one."""

    def __init__(self, population: Population, services: SpawnServices, changed: Callable[[], None]) -> None:
        self.state = TimerState()
        self._changed = changed
        self._population = population
        self._services = services

    @property
    def _options(self) -> WatcherOptions:
        return self._population.templates.in_force.options

    @property
    def exists(self) -> bool:
        """True for a watcher that has a schedule."""
        return self._options.schedule is not None

    @property
    def next_instant(self) -> float | None:
        """The next check of the clock, None while it is stopped."""
        return self.state.look_at

    @property
    def _zone(self) -> tzinfo:
        return zone_of(self._options.time_zone)

    def begin(self) -> None:
        """Follow the schedule from now on."""
        if self.exists and self.state.handled is None:
            since, self.state.resume = self.state.resume, None
            now = self._services.wall()
            goes_on = since is not None and self.state.of == self._identity and since <= now
            self._begin_at(since if since is not None and goes_on else now)

    def _begin_at(self, now: float) -> None:
        self.state.handled, self.state.of, self.state.delay = now, self._identity, 0.0
        self.check_clock()

    @property
    def _identity(self) -> str:
        return f"{self._options.schedule} {self._options.time_zone}"

    def end(self) -> None:
        """Start no more runs; the watcher ends a run in progress."""
        self.state.left = self.state.handled if self.state.handled is not None else self.state.left
        self.state.handled = self.state.following = self.state.look_at = self.state.queued = None

    def follow(self) -> None:
        """Follow the current schedule, which may have changed; without one, current runs no longer count."""
        if not self.exists:
            for run in tuple(self.state.runs):
                run.how = run.how or "lost its schedule"
                self._end_of(run, None)
        if self.state.handled is not None and self.state.of != self._identity:
            self._begin_at(self._services.wall())

    def check_clock(self) -> None:
        """Check the clock, and do what is due."""
        state, schedule = self.state, self._options.schedule
        if state.handled is None or schedule is None:
            return
        now = self._services.wall()
        found = due_runs(schedule, self._zone, state.handled, now, delay=state.delay)
        if found.following != state.following:
            state.delay = self._services.random() * self._options.schedule_jitter
        state.handled, state.following = found.handled, found.following
        wait = BOUND if found.following is None else min(max(found.following + state.delay - now, 0.0), BOUND)
        state.look_at = self._services.loop.now() + wait
        self._act_on(found)

    def _act_on(self, found: DueRuns) -> None:
        if found.set_back:
            self._services.emit(ClockSetBack(watcher=self._options.name, seconds=found.set_back))
        catch_up = self._options.catch_up and found.due is None and found.missed > 0
        if found.missed:
            self.state.count("missed", found.missed)
            missed = RunsMissed(
                watcher=self._options.name,
                count=found.missed,
                due=found.missed_since,
                when=self._text(found.missed_since),
                catch_up=catch_up,
            )
            self._services.emit(missed)
        if found.due is not None:
            self._due(found.due, RunCause.SCHEDULE)
        elif catch_up:
            self._due(found.missed_since, RunCause.CATCH_UP)

    def _text(self, instant: float) -> str:
        return f"{datetime.fromtimestamp(instant, self._zone):%Y-%m-%d %H:%M:%S %Z}".strip()

    def _due(self, due: float, cause: RunCause) -> None:
        """Start the run that is due, unless another one is in its way."""
        runs, overlap = self.state.runs, self._options.overlap
        if not runs or (overlap is Overlap.ALLOW and len(runs) < MOST):
            self.start(cause, due)
        elif overlap is Overlap.QUEUE and self.state.queued is None:
            self.state.queued = due
        else:
            self.state.count("skipped")
            skipped = RunSkipped(
                watcher=self._options.name,
                due=due,
                when=self._text(due),
                going_on=runs[0].number,
                seconds=self._services.loop.now() - runs[0].began_at,
                overlap=overlap.value,
            )
            self._services.emit(skipped)

    def start(self, cause: RunCause = RunCause.ASKED, due: float | None = None) -> None:
        """Start a run now."""
        state, slots = self.state, self._population.slots
        taken = {*slots, *(each.wid for each in self._population.processes)}
        wid = next(number for number in range(1, len(taken) + 2) if number not in taken)
        state.made += 1
        now = self._services.wall()
        due = now if due is None else due
        run = TimerRun(number=state.made, wid=wid, cause=cause, due=due, began=now, began_at=self._services.loop.now())
        state.runs.append(run)
        begun = RunBegun(watcher=self._options.name, run=run.number, cause=cause.value, due=due, when=self._text(due))
        self._services.emit(begun)
        slots[wid] = Slot(wid)
        self._population.event(slots[wid], SlotTrigger.WANT_UP)
        self.settle()
        self._changed()

    def exited(self, process: Process) -> None:
        """Record how a process that has left its slot ended; its run may be over."""
        run = next((each for each in self.state.runs if each.wid == process.wid), None)
        if run is None:
            return
        if process.refusal is not None:
            run.code = run.signum = None
            run.how = process.refusal.text
        elif process.exit is not None:
            run.code, run.signum, run.how = process.exit.code, process.exit.signum, str(process.exit)
        self.settle()

    def settle(self) -> None:
        """End the runs that are over, and start the one that waited for that."""
        for run in tuple(self.state.runs):
            if self._is_over(run):
                self._end_of(run, self._population.slots.pop(run.wid, None))
        if self.state.queued is not None and not self.state.runs:
            due, self.state.queued = self.state.queued, None
            self.start(RunCause.QUEUED, due)

    def _is_over(self, run: TimerRun) -> bool:
        slot = self._population.slots.get(run.wid)
        waits = slot is not None and not slot.finished and slot.state not in (SlotState.VACANT, SlotState.FATAL)
        return not waits and all(each.wid != run.wid for each in self._population.processes)

    def _end_of(self, run: TimerRun, slot: Slot | None) -> None:
        self.state.runs.remove(run)
        how = run.how or (slot.reason if slot is not None else "") or "did not begin"
        result = RunResult(
            number=run.number,
            cause=run.cause,
            due=run.due,
            began=run.began,
            seconds=self._services.loop.now() - run.began_at,
            code=run.code,
            signum=run.signum,
            how=f"{how} (run_timeout)" if run.timed_out else how,
        )
        self.state.count("good" if result.is_good else "failed")
        if result.is_good:
            self.state.last_good = self._services.wall()
        self.state.results = [*self.state.results, result][-KEPT:]
        ended = RunEnded(
            watcher=self._options.name,
            run=run.number,
            how=result.how,
            code=run.code,
            signum=run.signum,
            seconds=result.seconds,
        )
        self._services.emit(ended)

    def time_out(self, process: Process) -> None:
        """Stop the process of a run that has exceeded its time."""
        for run in self.state.runs:
            run.timed_out = run.timed_out or run.wid == process.wid
        seconds = self._services.loop.now() - process.started_at
        self._services.emit(RunTimedOut(**process.names(), seconds=seconds))
        self._population.stop(process)

    def acts(self, now: float) -> Iterator[tuple[str, Callable[[], None]]]:
        """Iterate over what is due."""
        if self.state.look_at is not None and self.state.look_at <= now:
            self.state.look_at = now + BOUND
            yield f"the schedule of {self._options.name}", self.check_clock

    def snapshot(self) -> TimerSnapshot | None:
        """Return it as a job sees it, None if there is none."""
        if not self.exists:
            return None
        running = tuple(each.number for each in self.state.runs)
        return TimerSnapshot(self._options.overlap, self.state.made, running, tuple(self.state.results))

    def view(self) -> TimerView | None:
        """Return a view of it, None if there is none."""
        schedule, state = self._options.schedule, self.state
        if schedule is None:
            return None
        return TimerView(
            now=self._services.wall(),
            schedule=schedule,
            time_zone=self._options.time_zone or "",
            next_at=None if state.following is None else state.following + state.delay,
            running=tuple(each.number for each in state.runs),
            queued=state.queued is not None,
            last=state.results[-1] if state.results else None,
        )
