"""Verbs in any order, with and without time between them: the last word counts, and nothing is forgotten.

All orders of three of the verbs, over a supervisor, its reloader and its ordered stop without processes. After each
the world comes to rest: what runs is what the file and the verbs ask for. Or TERM comes at once, to processes that are
deaf to it: each gets the grace of its own watcher, and no more.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from forkserve.config.model import Config, WatcherOptions
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobqueue.turns import JobTurns
from forkserve.supervision.jobs.advance import Reload, Resize, Restart, Start, Stop
from forkserve.supervision.os.spawn import Spawned, SpawnSpec
from forkserve.supervision.reload.reloader import ChangePhase
from forkserve.supervision.shutdown.ordered import OrderedStop
from tests.support.supervision import Child, FakeKernel, World, options

GRACE = 20.0
WEB = options("web", cmd="web", numprocesses=2, graceful_timeout=GRACE, max_retry=3)
OTHER = options("other", graceful_timeout=5.0)


class Clocked(FakeKernel):
    """Notes when each pid was first told to stop, and when it was killed."""

    def __init__(self) -> None:
        super().__init__()
        self.now: Callable[[], float] = lambda: 0.0
        self.told: dict[int, float] = {}
        self.killed: dict[int, float] = {}
        self.grace: dict[int, float] = {}

    def fork(self, spec: SpawnSpec, *, rehearse: bool = False) -> Spawned:
        spawned = super().fork(spec, rehearse=rehearse)
        self.grace[spawned.pid] = GRACE if spec.argv[0] == "web" else 5.0
        return spawned

    def _deliver(self, child: Child, signum: int) -> None:
        noted = self.killed if signum == signal.SIGKILL else self.told
        if signum in (signal.SIGKILL, signal.SIGTERM):
            noted.setdefault(child.pid, self.now())
        super()._deliver(child, signum)


class Scene:
    """A world, the file that it is run from, and what should run by all that was said."""

    def __init__(self) -> None:
        kernel = Clocked()
        self.file: dict[str, WatcherOptions] = {"web": WEB, "other": OTHER}
        self.world = World((WEB, OTHER), kernel=kernel)
        kernel.now = self.world.loop.now
        self.kernel = kernel
        self.promises: list[Completion] = []
        self.is_wanted, self.is_paused = True, False
        self.is_overtaken = False
        """Whether a verb was done before a change that was asked for earlier: changes wait for each other."""
        self.number = 2
        for name in ("web", "other"):
            self.world.submit(Start(), name)
        self.rest()

    # Verbs.

    def _job(self, job: Start | Stop | Restart | Reload | Resize) -> None:
        self.is_overtaken = bool(self.world.reloader.waiting)
        if any(each.name == "web" for each in self.world.supervisor.watchers):
            self.promises.append(self.world.submit(job))

    def start(self) -> None:
        self._job(Start())
        self.is_wanted, self.is_paused = True, False

    def stop(self) -> None:
        self._job(Stop())
        self.is_wanted = self.is_paused = False

    def restart(self) -> None:
        self._job(Restart())
        self.is_wanted, self.is_paused = True, False

    def reload(self) -> None:
        self._job(Reload())

    def grow(self) -> None:
        self._job(Resize(4))
        self.number = 4

    def pause(self) -> None:
        """Do what SIGWINCH does."""
        watchers = {each.name: each for each in self.world.supervisor.watchers}
        if "web" in watchers and watchers["web"].up:
            self.stop()
            watchers["web"].paused = self.is_paused = True
            watchers["web"].resumes = False

    def _edit(self, web: WatcherOptions | None) -> None:
        before = self.file.pop("web", None)
        if web is not None:
            self.file = {"web": web, **self.file}
            if before is None or self.is_paused:
                self.is_wanted, self.is_paused = True, False
            if before is None or before.numprocesses != web.numprocesses:
                self.number = web.numprocesses
        self.promises.append(self.world.reloader.request(processes=False))
        self.read()

    def remove(self) -> None:
        self._edit(None)

    def put_back(self) -> None:
        self._edit(WEB)

    def single(self) -> None:
        self._edit(replace(WEB, singleton=True, numprocesses=1))
        self.number = 1

    def warm(self) -> None:
        self._edit(replace(WEB, warmup_delay=0.7, numprocesses=3))

    # What happens.

    def read(self) -> None:
        """Have the helper read the file as it is now, if one is at it."""
        world = self.world
        world.settle()
        while world.reloader.phase is ChangePhase.READING:
            world.config_is_read(Config(watchers=tuple(self.file.values())))

    def rest(self) -> None:
        """Have every program run, and everything come to its end."""
        world, quiet = self.world, 0
        for _ in range(60):
            self.execs()
            world.pass_time(1.1)
            self.read()
            quiet = quiet + 1 if self._is_at_rest() else 0
            if quiet == 2:
                return
        raise AssertionError(f"no rest: {world.texts()[-20:]}")

    def execs(self) -> None:
        for child in self.kernel.living:
            if child.outcome is False and child.ended is None:
                if child.rehearse:
                    self.kernel.end(child, code=0)
                self.world.runs(child)
        self.world.reap()
        self.world.settle()

    def _is_at_rest(self) -> bool:
        settled = all(watcher.is_settled for watcher in self.world.supervisor.watchers)
        return settled and not self.world.reloader.is_busy and all(each.done for each in self.promises)

    # What must hold.

    def check(self) -> None:
        world = self.world
        assert not world.bugs(), world.bugs()[0]
        assert not self.kernel.faults
        watchers = {each.name: each for each in world.supervisor.watchers}
        assert watchers.keys() == self.file.keys()
        assert len(watchers["other"].processes) == 1
        if "web" in self.file:
            web = watchers["web"]
            assert not web.leaving and web.options == self.file["web"]
            assert len(web.processes) == (web.target if web.up else 0)
            if self.is_overtaken:
                return
            assert web.up == self.is_wanted
            assert web.target == (min(self.number, 1) if web.options.singleton else self.number)

    def term(self) -> None:
        """Stop everything, with processes that only SIGKILL ends."""
        world = self.world
        for child in self.kernel.living:
            child.obeys = False
        turns = JobTurns(world.loop)
        stop = OrderedStop(world.supervisor, turns, world.loop, lambda: None)
        stop.begin()
        for _ in range(40):
            if not world.supervisor.is_gone or turns.is_busy:
                stop.is_over(spared=(), quick=False)
            world.settle()
            world.pass_time(1.0)
            world.reap()
        stop._orphans.close()
        assert world.supervisor.is_gone and not self.kernel.living
        assert not world.bugs(), world.bugs()[0]
        for pid, killed in self.kernel.killed.items():
            if self.kernel.children[pid].rehearse:  # a trial, which nobody waits for
                continue
            patience = killed - self.kernel.told[pid]
            assert patience == pytest.approx(self.kernel.grace[pid], abs=0.2), world.texts()[-30:]


pytestmark = pytest.mark.timeout(300)  # it is all computing, and machines may be busy

VERBS = ("start", "stop", "restart", "reload", "grow", "pause", "remove", "put_back", "single", "warm")


def _does(order: tuple[str, ...], pause: float | None) -> Scene:
    scene = Scene()
    for verb in order:
        getattr(scene, verb)()
        if pause is not None:
            scene.execs()
            scene.world.pass_time(pause)
            scene.read()
    return scene


@pytest.mark.parametrize("pause", [None, 1.1])
def test_the_last_word_counts_and_nothing_is_forgotten(pause: float | None) -> None:
    for order in itertools.permutations(VERBS, 3):
        try:
            scene = _does(order, pause)
            scene.rest()
            scene.check()
        except AssertionError as error:
            error.add_note(f"in the order {order}")
            raise


def test_each_process_has_the_grace_of_its_watcher_when_all_stops_in_the_middle() -> None:
    for order in itertools.permutations(VERBS, 2):
        for pause in (None, 0.0, 0.4):
            try:
                _does(order, pause).term()
            except AssertionError as error:
                error.add_note(f"in the order {order}, with a pause of {pause}")
                raise
