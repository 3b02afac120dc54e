"""A change of the configuration survives that the master is replaced at any moment of it.

A state machine over a supervisor and its reloader without processes: verbs, events and readings of a configuration, and
in between the whole state is written as data and read by another. Whatever was promised is kept at the end.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forkserve.config.model import Config, WatcherOptions
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobs.advance import Reload, Restart, Start, Stop
from forkserve.supervision.reload.reloader import ChangePhase
from tests.support.supervision import World, options

NAMES = ("web", "db")


def _watcher(name: str, draw: st.DataObject) -> WatcherOptions:
    return options(
        name,
        cmd=draw.draw(st.sampled_from(("good", "good", "good", "dies", "missing"))),
        numprocesses=draw.draw(st.sampled_from((1, 2, 3))),
        max_retry=draw.draw(st.sampled_from((1, 3))),
        graceful_timeout=draw.draw(st.sampled_from((0.5, 10.0))),
    )


class ChangingSupervision(RuleBasedStateMachine):
    """Two watchers at most, and a configuration that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.promises: list[Completion] = []

    @initialize(draw=st.data())
    def begin(self, draw: st.DataObject) -> None:
        self.world = World(tuple(_watcher(name, draw) for name in NAMES))
        for name in NAMES:
            self.promises.append(self.world.submit(Start(), name))

    @rule(name=st.sampled_from(NAMES), job=st.sampled_from((Start(), Stop(), Restart(), Reload())))
    def ask(self, name: str, job: Start | Stop | Restart | Reload) -> None:
        if name in {watcher.name for watcher in self.world.supervisor.watchers}:
            self.promises.append(self.world.submit(job, name))

    @rule(processes=st.booleans())
    def reload_the_configuration(self, processes: bool) -> None:
        self.promises.append(self.world.reloader.request(processes=processes))
        self.world.settle()

    @precondition(lambda self: self.world.reloader.phase is ChangePhase.READING)
    @rule(draw=st.data(), names=st.sampled_from((NAMES, NAMES, ("web",), ("db", "web"), ())))
    def the_configuration_is_read(self, draw: st.DataObject, names: tuple[str, ...]) -> None:
        config = Config(watchers=tuple(_watcher(name, draw) for name in names))
        self.world.config_is_read(config if names else None)

    @rule(seconds=st.sampled_from((0.0, 0.1, 1.1, 6.0)))
    def time_passes(self, seconds: float) -> None:
        world = self.world
        for child in world.kernel.living:
            if child.ended is None and child.outcome is False:
                world.refuses(child) if child.argv[0] == "missing" else world.runs(child)
                if child.argv[0] == "dies" or child.rehearse:
                    world.kernel.end(child, code=0 if child.rehearse else 1)
        world.reap()
        world.settle()
        world.pass_time(seconds)

    @rule()
    def the_state_is_written_and_read(self) -> None:
        world, before = self.world, self.waited_for()
        text = world.written()
        watched = set(world.loop.watched)
        world.read(text)
        assert world.written() == text
        assert len(self.waited_for()) == len(before)
        self.promises = [each for each in self.promises if each.done] + self.waited_for()
        world.settle()
        assert set(world.loop.watched) == watched

    def waited_for(self) -> list[Completion]:
        """Return the promises that supervision has to keep."""
        world = self.world
        underway = [each for queue in world.supervisor for each in (*queue.beside, *queue.waiting, queue.current)]
        promised = [each.completion for each in underway if each is not None]
        waiting = [each for request in world.reloader.waiting for each in request.completions]
        return [*promised, *world.reloader.progress.asked.completions, *waiting]

    @invariant()
    def nothing_forbidden_happens(self) -> None:
        assert not self.world.kernel.faults
        assert not self.world.bugs(), self.world.bugs()[0]

    @invariant()
    def every_child_is_known_until_it_is_reaped(self) -> None:
        known = self.world.supervisor.living
        assert all(child.rehearse or child.pid in known for child in self.world.kernel.living)

    def teardown(self) -> None:
        """Let everything come to rest: all promises are kept, and a stop ends it all."""
        world = self.world
        for _ in range(200):
            if world.reloader.phase is ChangePhase.READING:
                world.config_is_read(None)
            self.time_passes(3.1)
            if all(each.done for each in self.promises):
                break
        assert all(each.done for each in self.promises), world.written()
        world.reloader.cancel()
        stops = [queue.submit(Stop()) for queue in world.supervisor]
        for _ in range(100):
            world.settle()
            world.pass_time(5.1)
            world.reap()
            if all(each.done for each in stops):
                break
        assert all(each.done for each in stops)
        assert not world.kernel.living and world.supervisor.is_gone


TestChangingSupervision = ChangingSupervision.TestCase
TestChangingSupervision.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
