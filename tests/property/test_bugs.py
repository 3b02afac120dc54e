"""Whatever function of supervision raises, once, costs its watcher a moment and nobody else anything.

A course of starts, reloads, deaths, sizes and stops is run with a bug put into it: at the n-th call of one function an
exception comes instead (sys.settrace). Afterwards every process is known and in its place, every watcher is as it was
asked to be, every promise is kept or has failed, no signal went to a pid that was reaped, and a stop ends it all.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import forkserve.supervision
from forkserve.supervision.completion import Completion
from forkserve.supervision.hooks.call import HookAnswer, HookCall
from forkserve.supervision.jobs.job import Job, Reload, Resize, Restart, Start, Stop
from tests.support.supervision import ManualLoop, World, options

ROOT = f"{Path(forkserve.supervision.__file__).parent}/"
SPARED = ("events/", "barrier.py", "repair.py")
"""What catches bugs and what tells of them; facts are handed out by the bus, which has its own barrier."""

Place = tuple[str, str]
"""A module, and the name of a function in it."""

SAMPLE = 15


class Bug(Exception):
    """What is put in."""


@dataclass
class Tracer:
    """Counts the calls of functions of supervision; at the `nth` call of the one at `place` there is a bug."""

    place: Place | None = None
    nth: int = 1
    calls: Counter[Place] = field(default_factory=Counter)
    has_raised: bool = False

    def __call__(self, frame: FrameType, _event: str, _argument: object) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(ROOT):
            return
        place = code.co_filename.removeprefix(ROOT), f"{code.co_name}:{code.co_firstlineno}"
        self.calls[place] += 1
        if place == self.place and self.calls[place] == self.nth and not self.has_raised:
            self.has_raised = True
            raise Bug(f"call {self.nth} of {place}")


class GuardedLoop(ManualLoop):
    """Has the barrier of the real loop around each callback, and counts nothing else."""

    def ready(self, fd: int) -> None:
        if fd in self.watched:
            self.guard(partial(self.watched[fd], 1))
        self.serve()

    def call_at(self, deadline: float, callback: Callable[[], None]) -> Any:
        return super().call_at(deadline, partial(self.guard, callback))

    def guard(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Bug:
            self.on_bug()


class Course:
    """The course of events, with or without a bug."""

    def __init__(self, tracer: Tracer) -> None:
        web = options("web", cmd="good", numprocesses=2, graceful_timeout=3.0, max_age=30.0, ready_timeout=10.0)
        db = options("db", cmd="good", numprocesses=2, graceful_timeout=3.0, ready_timeout=10.0)
        hooks = dict.fromkeys(("before_start", "after_start", "before_spawn", "before_signal", "after_stop"), "a.b")
        alone = options("alone", cmd="good", singleton=True, graceful_timeout=3.0, ready_timeout=10.0, hooks=hooks)
        self.tracer, self.loop = tracer, GuardedLoop()
        self.world = World((web, db, alone), loop=self.loop, call_hook=self.call_hook)
        self.promises: list[Completion] = []

    def act(self, act: Callable[[], object]) -> None:
        """Do one thing as the master does it, with the bug in it or not."""

        def traced() -> None:
            sys.settrace(self.tracer)
            try:
                act()
            finally:
                sys.settrace(None)

        self.loop.guard(traced)

    def call_hook(self, _call: HookCall, then: Callable[[HookAnswer], None]) -> None:
        """Say yes a moment later, and once more when a bug has come in between, as the host of hooks does."""

        def answer() -> None:
            self.loop.call_at(self.loop.now() + 0.1, lambda: None if is_taken else then(HookAnswer(said=True)))
            then(HookAnswer(said=True))
            is_taken.append(True)

        is_taken: list[bool] = []
        self.loop.call_at(self.loop.now() + 0.1, answer)  # the host has no bug

    def ask(self, name: str, job: Job) -> None:
        self.act(lambda: self.promises.append(self.world.queue(name).submit(job)))
        self.act(self.world.settle)

    def go_well(self, rounds: int) -> None:
        """Have programs run and say that they are ready, in rounds of two seconds."""
        kernel = self.world.kernel
        for _ in range(rounds):
            for child in kernel.living:
                if child.outcome is False and child.ended is None:
                    child.outcome = True
                    if child.rehearse:
                        kernel.end(child, code=0)
                    self.act(partial(self.loop.ready, child.report))
            for child in (each for each in kernel.living if each.runs):
                self.act(partial(self.world.says, child, READY="1", STATUS="fine"))
            self.pass_time(2.0)

    def pass_time(self, seconds: float) -> None:
        end = self.loop.clock + seconds
        while self.loop.clock < end:
            self.loop.clock = min(end, max(self.loop.clock, self.loop.following(end)))
            self.act(self.loop.serve)
            self.act(self.world.reap)

    def run(self) -> None:
        """Have everything happen."""
        kernel = self.world.kernel
        for name in ("web", "db", "alone"):
            self.ask(name, Start())
        self.go_well(3)
        self.ask("web", Reload())
        self.go_well(2)
        for child in kernel.living:
            kernel.end(child, signum=9)
        self.act(self.world.reap)
        self.go_well(2)
        for size in (4, 1):
            self.ask("db", Resize(size))
            self.go_well(1)
        self.ask("web", Restart())
        self.ask("alone", Restart())
        self.go_well(2)
        kernel.living[0].obeys = False
        for child in kernel.living:
            child.others = 1
        self.ask("web", Stop())
        self.ask("alone", Reload())
        self.pass_time(1.0)
        for child in kernel.children.values():
            child.others = 0
        self.pass_time(12.0)
        self.ask("web", Start())
        self.go_well(3)
        wanted = options("web", cmd="good", numprocesses=3, graceful_timeout=3.0, ready_timeout=10.0)
        self.act(lambda: self.ask_for(self.world.watcher("web").offer(self.world.command(wanted))))
        self.go_well(4)

    def ask_for(self, offer: int) -> None:
        self.promises.append(self.world.queue("web").submit(Reload(offer=offer, target=3)))

    def come_to_rest(self) -> None:
        """Have everything end well, with no more bugs."""
        self.tracer.has_raised = True
        for child in self.world.kernel.children.values():
            child.others = 0
        self.go_well(15)
        for _ in range(3):  # a process that has just reached its age is being replaced
            if not all(watcher.is_settled for watcher in self.world.supervisor.watchers):
                self.go_well(1)


def faults_of(course: Course) -> list[str]:
    """Return what does not hold at rest, and after a stop."""
    world = course.world
    faults = list(world.kernel.faults)
    for watcher in world.supervisor.watchers:
        places = {slot.occupant.number for slot in watcher.slots.values() if slot.occupant is not None}
        faults += [
            f"{each} is {each.state}, and has no place" for each in watcher.processes if each.number not in places
        ]
        faults += [f"{each} is {each.state}" for each in watcher.processes if not each.is_ready]
        faults += [] if watcher.is_settled else [f"{watcher.name} is not settled"]
    known = world.supervisor.living
    faults += [f"{each.pid} is unknown" for each in world.kernel.living if each.pid not in known]
    faults += [f"{pid} is taken for alive" for pid in known if world.kernel.children[pid].reaped]
    faults += ["a promise is not kept" for each in course.promises if not each.done]
    stops = [queue.submit(Stop()) for queue in world.supervisor]
    for _ in range(10):
        world.settle()
        world.pass_time(5.1)
    faults += ["a stop does not end" for each in stops if not each.done]
    faults += [f"{each.pid} is left" for each in world.kernel.living]
    return faults + world.kernel.faults


@functools.cache
def calls() -> Counter[Place]:
    """Return how often each function is called when nothing goes wrong."""
    course = Course(Tracer())
    course.run()
    course.come_to_rest()
    assert not faults_of(course)
    return Counter({place: n for place, n in course.tracer.calls.items() if not place[0].startswith(SPARED)})


def look_at(place: Place, nth: int) -> None:
    course = Course(Tracer(place, nth))
    course.run()
    course.come_to_rest()
    faults = faults_of(course)
    assert not faults, f"with a bug in call {nth} of {place}: {faults}"


@pytest.mark.timeout(120)
def test_a_bug_in_some_functions_of_supervision_is_survived() -> None:
    counted = sorted(calls().items())
    chance = random.Random(11)
    for place, count in chance.sample(counted, SAMPLE):
        look_at(place, chance.randint(1, count))


@pytest.mark.slow  # some minutes, all of it computing
@pytest.mark.timeout(3000)
def test_a_bug_in_any_function_of_supervision_is_survived() -> None:
    for place, count in sorted(calls().items()):
        for nth in sorted({1, 2, count // 3, count // 2, 2 * count // 3, count} - {0}):
            if nth <= count:
                look_at(place, nth)


def place_of(module: str, name: str) -> Place:
    return next(place for place in calls() if place[0] == module and place[1].startswith(f"{name}:"))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("supervisor.py", "reaped"),
        ("processes/processes.py", "record"),
        ("processes/processes.py", "become_ready"),
        ("processes/processes.py", "keep"),
        ("slots/population.py", "succeed"),
        ("slots/population.py", "stop"),
    ],
)
def test_a_bug_between_an_event_and_what_follows_of_it_is_made_good(module: str, name: str) -> None:
    look_at(place_of(module, name), nth=2)


@pytest.mark.parametrize(("module", "name"), [("hooks/gate.py", "_stopped_answered"), ("watcher.py", "import_path")])
def test_a_bug_around_the_call_of_a_hook_is_made_good(module: str, name: str) -> None:
    look_at(place_of(module, name), nth=1)
