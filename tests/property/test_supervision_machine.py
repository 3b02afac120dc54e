"""Whatever is asked and whatever happens, in whatever order, supervision keeps its promises.

A state machine of verbs and events over a supervisor without processes (tests/support/supervision.py). After each step
a slot has one occupant, no signal went to a pid that was reaped, the deadlines are armed, no bug was caught. At random
moments the whole state is written as data, read back, and goes on. At the end everything settles, every promise is
kept, and a stop ends it all.
"""

from __future__ import annotations

import errno

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from forkserve.config.model import WatcherOptions
from forkserve.config.schedules import Overlap
from forkserve.supervision.completion import Completion
from forkserve.supervision.generations.templates import KEPT
from forkserve.supervision.jobqueue.queue import Superseded
from forkserve.supervision.jobs.advance import Job, Reload, Resize, Restart, RunOnce, SlotJob, Start, Stop
from forkserve.supervision.lifecycle import ProcessState, SlotState
from forkserve.supervision.process import Process
from forkserve.supervision.slot import Slot
from forkserve.supervision.watcher import Watcher
from tests.support.supervision import Child, World, options

NAMES = ("web", "db")
PROGRAMS = ("good", "dies", "missing", "silent")
"""What becomes of a process: it serves, ends soon, cannot be executed, or its exec hangs."""


def _timer(name: str, draw: st.DataObject) -> WatcherOptions:
    return options(
        name,
        cmd=draw.draw(st.sampled_from(("good", "good", *PROGRAMS))),
        schedule=draw.draw(st.sampled_from(("* * * * *", "*/10 * * * * *"))),
        time_zone="UTC",
        overlap=draw.draw(st.sampled_from(tuple(Overlap))),
        catch_up=draw.draw(st.booleans()),
        run_timeout=draw.draw(st.sampled_from((0.0, 5.0))),
        graceful_timeout=draw.draw(st.sampled_from((0.5, 10.0))),
    )


def _watcher(name: str, draw: st.DataObject) -> WatcherOptions:
    if draw.draw(st.sampled_from((False, False, False, False, True))):
        return _timer(name, draw)
    singleton = draw.draw(st.sampled_from((False, False, False, True)))
    return options(
        name,
        cmd=draw.draw(st.sampled_from(("good", "good", "good", *PROGRAMS))),
        numprocesses=draw.draw(st.sampled_from((1, 0) if singleton else (2, 3, 1, 0))),
        warmup_delay=draw.draw(st.sampled_from((0.0, 0.0, 0.7))),
        max_retry=draw.draw(st.sampled_from((-1, 1, 3))),
        respawn=draw.draw(st.sampled_from((True, True, True, False))),
        singleton=singleton,
        send_hup=draw.draw(st.sampled_from((False, False, False, True))),
        max_age=draw.draw(st.sampled_from((0.0, 0.0, 20.0, 4.0))),
        graceful_timeout=draw.draw(st.sampled_from((0.5, 10.0))),
    )


class Supervision(RuleBasedStateMachine):
    """Two watchers, and everything that can happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.promises: list[Completion] = []
        self.in_force: dict[str, list[WatcherOptions]] = {}
        """The options that a watcher may have now: one, or two when a change was cut short."""
        self.offers: dict[tuple[str, int], WatcherOptions] = {}
        self.successes_of_the_given_up: list[Slot] = []
        self.alone: dict[tuple[str, int, str], bool] = {}
        """By watcher and number: whether a process was started as that of a singleton."""

    @initialize(draw=st.data())
    def begin(self, draw: st.DataObject) -> None:
        watchers = tuple(_watcher(name, draw) for name in NAMES)
        self.world = World(watchers)
        self.in_force = {each.name: [each] for each in watchers}

    # Verbs.

    def submit(self, name: str, job: Job) -> None:
        if name in {watcher.name for watcher in self.world.supervisor.watchers}:
            completion = self.world.queue(name).submit(job)
            self.promises.append(completion)
            self._heed(name, job, completion)
            self.world.settle()

    @rule(name=st.sampled_from(NAMES))
    def start(self, name: str) -> None:
        self.submit(name, Start())

    @rule(name=st.sampled_from(NAMES))
    def stop(self, name: str) -> None:
        self.submit(name, Stop())

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        self.submit(name, Restart())

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 4))
    def resize(self, name: str, number: int) -> None:
        self.submit(name, Resize(number))

    @rule(name=st.sampled_from(NAMES), wid=st.integers(1, 3), stops=st.booleans(), starts=st.booleans())
    def one_slot(self, name: str, wid: int, stops: bool, starts: bool) -> None:
        known = {watcher.name: watcher for watcher in self.world.supervisor.watchers}
        if name in known and wid <= known[name].target and not known[name].timer.exists and (stops or starts):
            pids = tuple(each.pid for each in known[name].processes if each.wid == wid and each.is_alive)
            self.submit(name, SlotJob(wid, f"{name}[{wid}]", pids, stops=stops, starts=starts))

    @rule(name=st.sampled_from(NAMES))
    def reload(self, name: str) -> None:
        known = {queue.watcher.name: queue for queue in self.world.supervisor}
        hangs_up = name in known and known[name].is_idle and known[name].watcher.options.send_hup
        forked = len(self.world.kernel.children)
        self.submit(name, Reload())
        assert not hangs_up or len(self.world.kernel.children) == forked, "SIGHUP is enough"

    @rule(name=st.sampled_from(NAMES), draw=st.data())
    def change(self, name: str, draw: st.DataObject) -> None:
        """A reload of the configuration that has changed the command of a watcher, and perhaps its size."""
        if name in {watcher.name for watcher in self.world.supervisor.watchers}:
            wanted = _watcher(name, draw)
            keeps = not (wanted.singleton or wanted.schedule)
            target = draw.draw(st.sampled_from((wanted.numprocesses, *((None,) if keeps else ()))))
            offer = self.world.watcher(name).offer(self.world.command(wanted))
            self.offers[name, offer] = wanted
            self.submit(name, Reload(offer=offer, target=target))

    def _heed(self, name: str, job: Job, completion: Completion) -> None:
        """Look at what is said to be done, and note which options are in force after a change."""
        offered = self.offers.get((name, job.offer)) if isinstance(job, Reload) else None

        def note(over: Completion) -> None:
            if over.error is None and not isinstance(job, Stop):
                self._is_served(name, job)
            if offered is not None and over.error is None:
                self.in_force[name] = [offered]
            elif offered is not None and isinstance(over.error, Superseded):  # before it began, or while it went on
                self.in_force[name] = [*self.in_force[name], offered]

        completion.when_done(note)

    def _is_served(self, name: str, job: Job) -> None:
        watcher = self.world.watcher(name)
        slots = list(watcher.slots.values())
        if isinstance(job, SlotJob):  # it says nothing of the others
            slots = [each for each in slots if each.wid == job.wid and job.starts]
        if watcher.up and not watcher.options.send_hup:
            self.successes_of_the_given_up += [each for each in slots if each.state is SlotState.FATAL]

    @rule(name=st.sampled_from(NAMES))
    def run_now(self, name: str) -> None:
        self.submit(name, RunOnce())

    @rule(seconds=st.sampled_from((-20_000.0, -100.0, 45.0, 100.0, 20_000.0)))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.wall_ahead += seconds

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if name in {watcher.name for watcher in self.world.supervisor.watchers}:
            self.promises.append(self.world.supervisor.remove(name))
            self.world.settle()

    @rule(name=st.sampled_from(NAMES), draw=st.data())
    def put_back(self, name: str, draw: st.DataObject) -> None:
        known = {watcher.name: watcher for watcher in self.world.supervisor.watchers}
        if name not in known or known[name].leaving:
            wanted = _watcher(name, draw)
            self.world.supervisor.add(self.world.command(wanted))
            self.in_force[name] = [wanted]
            self.submit(name, Start())

    # Events.

    def _child(self, draw: st.DataObject) -> Child | None:
        living = [each for each in self.world.kernel.living if each.ended is None]
        return draw.draw(st.sampled_from(living)) if living else None

    @rule(draw=st.data())
    def exec_is_over(self, draw: st.DataObject) -> None:
        child = self._child(draw)
        if child is not None and child.outcome is False:
            self._go_on(child)

    def _go_on(self, child: Child) -> None:
        if child.argv[0] == "missing":
            self.world.refuses(child)
        elif child.rehearse:
            child.outcome = True
            self.world.kernel.end(child, code=0)
            self.world.runs(child)
        elif child.argv[0] != "silent":
            self.world.runs(child)
        self.world.reap()
        self.world.settle()

    @rule()
    def all_execs_are_over(self) -> None:
        for child in self.world.kernel.living:
            if child.outcome is False and child.ended is None:
                self._go_on(child)

    @rule(rounds=st.sampled_from((1, 3, 9)))
    def all_goes_well_for_a_while(self, rounds: int) -> None:
        for _ in range(rounds):
            self.all_execs_are_over()
            self.world.pass_time(1.1)

    @rule(draw=st.data())
    def says_ready(self, draw: st.DataObject) -> None:
        child = self._child(draw)
        if child is not None and child.runs and child.argv[0] == "good":
            self.world.says(child, READY="1", STATUS="fine")

    @rule(draw=st.data(), signum=st.sampled_from((None, 9, 11, 15)))
    def dies(self, draw: st.DataObject, signum: int | None) -> None:
        child = self._child(draw)
        if child is not None:
            self.world.dies(child, code=None if signum else 1, signum=signum)

    @rule()
    def all_die_at_once(self) -> None:
        for child in self.world.kernel.living:
            self.world.kernel.end(child, signum=9)
        self.world.reap()

    @rule(draw=st.data())
    def becomes_deaf(self, draw: st.DataObject) -> None:
        child = self._child(draw)
        if child is not None:
            child.obeys = False
            child.others += draw.draw(st.integers(0, 1))

    @rule()
    def all_become_deaf(self) -> None:
        for child in self.world.kernel.living:
            child.obeys = False

    @rule()
    def a_group_ends(self) -> None:
        for child in self.world.kernel.children.values():
            child.others = 0
        self.world.supervisor.reaped(())
        self.world.settle()

    @rule(seconds=st.sampled_from((0.0, 0.1, 0.6, 1.1, 5.5, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(number=st.sampled_from((0, errno.EAGAIN, errno.EMFILE, errno.EPERM)))
    def the_machine_is_short(self, number: int) -> None:
        self.world.kernel.short_of = number

    @rule()
    def the_state_is_written_and_read(self) -> None:
        world = self.world
        text = world.written()
        watched = set(world.loop.watched)
        world.read(text)
        assert world.written() == text
        world.settle()
        assert set(world.loop.watched) == watched
        for queue in world.supervisor:
            underway = [*queue.beside, *queue.waiting, *([queue.current] if queue.current else [])]
            self.promises = [each for each in self.promises if each.done]
            self.promises += [each.completion for each in underway]
            for each in underway:
                self._heed(queue.watcher.name, each.job, each.completion)

    # What always holds.

    @invariant()
    def a_slot_has_one_occupant(self) -> None:
        for watcher in self.world.supervisor.watchers:
            placed = []
            for wid, slot in watcher.slots.items():
                inside = [each for each in (slot.occupant, slot.candidate) if each is not None]
                assert all(each.wid == wid and each.number in watcher.processes.by_number for each in inside)
                assert slot.occupant is None or slot.occupant is not slot.candidate
                assert (slot.occupant is None) == (slot.state is not SlotState.FILLED)
                assert (slot.retry is not None) == (slot.state is SlotState.BACKOFF)
                placed += [each.number for each in inside]
            assert len(placed) == len(set(placed))
            strays = [each for each in watcher.processes if each.number not in placed and not each.is_asked_to_end]
            assert not strays, strays
            if not watcher.timer.exists:
                assert watcher.up or not watcher.slots
                assert len(watcher.slots) <= watcher.target
            else:
                assert {*watcher.slots} <= {run.wid for run in watcher.timer.state.runs}
                assert watcher.timer.state.handled is None or watcher.up

    @invariant()
    def no_more_than_one_extra_process_is_under_way(self) -> None:
        for watcher in self.world.supervisor.watchers:
            replaced = [slot for slot in watcher.slots.values() if slot.candidate is not None]
            assert len(replaced) <= 1 or watcher.options.max_age > 0

    @invariant()
    def two_generations_do_not_stay(self) -> None:
        if any("cannot be put back" in each for each in self.world.texts()):
            return
        for queue in self.world.supervisor:
            watcher = queue.watcher
            if queue.is_idle and not watcher.timer.exists:  # a run ends as it began
                occupants = [slot.occupant for slot in watcher.slots.values() if slot.occupant is not None]
                assert {each.generation for each in occupants} <= {watcher.generation}

    @invariant()
    def a_change_is_taken_whole_or_not_at_all(self) -> None:
        for queue in self.world.supervisor:
            if queue.is_idle:
                name, options = queue.watcher.name, queue.watcher.options
                assert options in self.in_force[name]
                self.in_force[name] = [options]

    @invariant()
    def nothing_is_kept_of_offers_that_were_not_taken(self) -> None:
        assert all(not queue.watcher.templates.offers for queue in self.world.supervisor if queue.is_idle)

    @invariant()
    def what_was_removed_is_forgotten_when_it_is_gone(self) -> None:
        for queue in self.world.supervisor:
            watcher = queue.watcher
            assert not (watcher.leaving and queue.is_idle and watcher.is_gone and not watcher.up)

    @invariant()
    def what_has_been_given_up_is_no_success(self) -> None:
        assert not self.successes_of_the_given_up

    def _is_single(self, watcher: Watcher, process: Process) -> bool:
        return watcher.templates.by_generation[process.generation].options.singleton

    def _key(self, watcher: Watcher, process: Process) -> tuple[str, int, str]:
        """Return what no other process has, of a watcher of this name that was removed before included."""
        return watcher.name, process.number, f"{process.started_at} {process.notify_address}"

    @invariant()
    def a_singleton_is_alone(self) -> None:
        for watcher in self.world.supervisor.watchers:
            singles = [
                each
                for each in watcher.processes
                if self.alone.setdefault(self._key(watcher, each), self._is_single(watcher, each))
            ]
            assert len(singles) <= 1, singles

    @invariant()
    def nothing_forbidden_was_asked_of_the_kernel(self) -> None:
        assert not self.world.kernel.faults
        assert not self.world.bugs(), self.world.bugs()[0]

    @invariant()
    def every_child_is_known_until_it_is_reaped(self) -> None:
        known = self.world.supervisor.living
        for child in self.world.kernel.living:
            assert child.rehearse or child.pid in known
        assert known <= {child.pid for child in self.world.kernel.living}
        for watcher in self.world.supervisor.watchers:
            for process in watcher.processes:
                assert process.exit is None and process.state is not ProcessState.GONE

    @invariant()
    def a_singleton_has_one_place(self) -> None:
        assert all(each.target <= 1 for each in self.world.supervisor.watchers if each.options.singleton)

    @invariant()
    def every_deadline_is_armed(self) -> None:
        for watcher in self.world.supervisor.watchers:
            wanted = watcher.next_instant
            if wanted is not None:
                assert self.world.loop.following(float("inf")) <= wanted

    @invariant()
    def templates_do_not_pile_up(self) -> None:
        for watcher in self.world.supervisor.watchers:
            templates = watcher.templates
            assert len(templates.by_generation.keys() - set(templates.good)) <= len(watcher.processes) + 3
            assert len(templates.good) <= KEPT
            assert templates.by_generation.keys() >= {*templates.good, templates.generation}

    def teardown(self) -> None:
        """Mend the machine, let everything come to rest, then stop all."""
        world = self.world
        world.kernel.short_of = 0
        renewed: set[str] = set()
        for _ in range(200):
            self.all_execs_are_over()
            for child in world.kernel.living:
                if child.runs and (child.argv[0] == "dies" or child.pid in self._pids_of_timers()):
                    world.kernel.end(child, code=1)
                elif child.runs and child.argv[0] == "good":  # what has said it once is waited for
                    world.says(child, READY="1")
            for child in world.kernel.children.values():
                child.others = 0
            world.reap()
            world.supervisor.reaped(())
            world.settle()
            world.pass_time(3.1)
            # those that are renewed all the time, one process after the other, may never serve at one instant
            renewed |= {each.name for each in world.supervisor.watchers if each.has_started and each.options.max_age}
            if self._is_at_rest(renewed) or self._never_rests():
                break
        assert self._never_rests() or self._is_at_rest(renewed), world.written()
        promises = [queue.submit(Stop()) for queue in world.supervisor]
        for _ in range(100):
            world.settle()
            world.pass_time(5.1)
            world.reap()
        assert all(each.done for each in (*promises, *self.promises))
        assert not world.kernel.living and world.supervisor.is_gone
        self.a_slot_has_one_occupant()
        self.nothing_forbidden_was_asked_of_the_kernel()

    def _pids_of_timers(self) -> frozenset[int]:
        timers = [each for each in self.world.supervisor.watchers if each.timer.exists]
        return frozenset(pid for each in timers for pid in each.processes.pids)

    def _is_at_rest(self, renewed: set[str]) -> bool:
        """True when every promise is kept, and each watcher with a good program has what it wants, or had it."""
        good = [each for each in self.world.supervisor.watchers if each.up and each.options.cmd == "good"]
        done = all(each.done for each in self.promises)
        return done and all(each.has_started or each.name in renewed for each in good)

    def _never_rests(self) -> bool:
        """True when a watcher tries a broken program for ever, as it was told."""
        return any(
            watcher.up and watcher.options.max_retry < 0 and watcher.options.cmd != "good"
            for watcher in self.world.supervisor.watchers
        )


TestSupervision = Supervision.TestCase
TestSupervision.pytestmark = [pytest.mark.timeout(300)]  # it is all computing, and machines may be busy
TestSupervision.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
