"""Samples processes, queues and the loop several times a second while someone needs the samples.

Theory of operation. A timer takes the samples: requests in flight and how busy each worker is, from the pages of the
scoreboard; the length of the queues, from the kernel; and how late the timer itself is, which is the lag of the
master's loop. PSS takes the kernel long, so a helper reads it (`os.forkedcall`), and only while metrics are read. What
events report (a lost process, the end of a reload) is counted as it happens.

Rules: a look costs microseconds for each worker. Nothing that a worker has written is trusted: see `figures`.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import (
    ConfigRefused,
    Consequence,
    DeadlineMissed,
    Event,
    ProcessAged,
    ProcessExited,
    ProcessGrown,
    ProcessStuck,
    ReloadDone,
    ReloadFailed,
    ReloadTakenBack,
    SpawnFailed,
    WatcherScaled,
)
from forkserve.supervision.events.base import WatcherEvent
from forkserve.supervision.figures import GenerationFigures, WatcherFigures
from forkserve.supervision.metrics.sampling import Mean, Peak
from forkserve.supervision.os.forkedcall import ForkedCall, call_in_fork
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.usage import processor_seconds, proportional
from forkserve.supervision.process import Process
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher
from forkserve.unix.counters import PageReading
from forkserve.unix.queues import oldest_in, whole_length

__all__ = ["Load", "Observatory", "QueueWatch", "WatcherWatch"]

INTERVAL = 0.25
"""Seconds between two samples."""
AT_A_TIME = 0.005
"""Seconds of sampling at a stretch; then other events have their turn."""
PROCESSOR_INTERVAL = 1.0
"""Seconds over which the processor time of a worker is measured, which the kernel counts in hundredths."""
AGE_INTERVAL = 1.0
"""Seconds between two queries for the age of a queue's oldest connection, which may take the kernel a millisecond."""
MEMORY_INTERVAL = 10.0
"""Seconds between two measurements of PSS."""
MEMORY_TIMEOUT = 30.0
ATTENTION = 120.0
"""Seconds after a reading of the metrics for which PSS is still measured."""
_NO_LOSS = (Consequence.NONE, Consequence.FINISHED, Consequence.EXPECTED, Consequence.SUCCESSOR_STARTS)
MOST_IN_FLIGHT = 1_000_000
"""Most requests in flight of one worker that are accepted as plausible."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the workers of a watcher are, from 0 to 1, and the connections that wait for them."""

    busy: float
    queued: int


class WatcherWatch:
    """The samples of one watcher; `share` is how busy its workers were at the last sample, from 0 to 1."""

    def __init__(self) -> None:
        self.share = 0.0
        self.active = Peak()
        self.busy = Mean()


class QueueWatch:
    """The samples of one listening socket: how many connections wait, how many can, and for how long the oldest does,
    if the kernel knows.
    """

    def __init__(self) -> None:
        self.depth = Peak()
        self.oldest = Peak()
        self.bound = 0
        self.is_known = False
        self.knows_age = False
        self.asked_at = 0.0


class Observatory:
    """The samples of one master. `begin` starts sampling; before that nothing is measured."""

    def __init__(self, supervisor: Supervisor, loop: Loop) -> None:
        self.watchers: dict[str, WatcherWatch] = defaultdict(WatcherWatch)
        self.queues: dict[str, QueueWatch] = defaultdict(QueueWatch)
        self.lag = Peak()
        self.pss: Mapping[int, int] = {}
        """Bytes by pid, as of the last measurement."""
        self.refused_configs = 0
        self._supervisor = supervisor
        self._loop = loop
        self._timer: Timer | None = None
        self._processor: dict[int, tuple[float, float, float]] = {}
        self._call: ForkedCall[Mapping[int, int]] | None = None
        self._measured_at = float("-inf")
        self._read_at = float("-inf")
        self._told: set[int] = set()
        self._round: Iterator[None] | None = None
        self._turn: Timer | None = None
        self.on_sampled: list[Callable[[float], Iterator[None]]] = []
        """Called when everything was sampled, with the instant."""

    def to_data(self) -> dict[str, Any]:
        """Return the counts as plain data; samples are taken again."""
        pss = {str(pid): size for pid, size in self.pss.items()}
        return {"refused_configs": self.refused_configs, "pss": pss, "told": sorted(self._told)}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from the counts of another one."""
        self.refused_configs, self._told = data["refused_configs"], set(data["told"])
        self.pss = {int(pid): size for pid, size in data["pss"].items()}

    def begin(self) -> None:
        """Start sampling; a second call does nothing."""
        if self._timer is None:
            self._timer = self._loop.call_later(INTERVAL, self._sample_all)

    def close(self) -> None:
        """Stop sampling."""
        for timer in (self._timer, self._turn):
            if timer is not None:
                timer.cancel()
        self._read_at = float("-inf")
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def reaped(self, exit_: Exit) -> None:
        """Note that a process has been reaped; it may be the helper."""
        if self._call is not None:
            self._call.reaped(exit_.pid)

    def attend(self) -> None:
        """Note that the metrics are being read."""
        self._read_at = self._loop.now()

    def collect(self) -> Iterator[None]:
        """Read the counters of all processes, one in each step."""
        for watcher in self._supervisor.watchers:
            for process in watcher.processes:
                with Barrier(self._supervisor.emit, f"the counters of {process}"):
                    watcher.processes.count(process)
                yield

    def figures_of(self, watcher: Watcher, generation: int) -> GenerationFigures:
        """Return the current figures of one generation of a watcher."""
        processes = [each for each in watcher.processes.workers if each.generation == generation]
        for process in processes:
            watcher.processes.count(process)
        known = [self.pss[each.pid] for each in processes if each.pid in self.pss]
        return watcher.processes.figures.of(
            generation,
            now=self._loop.now(),
            processes=len(processes),
            memory=sum(known) // len(known) if known else 0,
        )

    # What events state.

    def on_event(self, event: Event) -> None:
        """Count what an event reports; subscribed to the bus."""
        if isinstance(event, ConfigRefused):
            self.refused_configs += 1
        elif isinstance(event, ReloadTakenBack):
            for name in event.watchers:
                self._count_deploy(name, "taken back")
        elif isinstance(event, WatcherEvent):
            figures = self._figures(event.watcher)
            if figures is not None:
                self._count(event, figures)

    def _count_deploy(self, name: str, result: str) -> None:
        figures = self._figures(name)
        if figures is not None:
            figures.count_deploy(result)

    def _figures(self, name: str) -> WatcherFigures | None:
        watcher = self._supervisor.find(name)
        return None if watcher is None else watcher.processes.figures

    def _count(self, event: WatcherEvent, figures: WatcherFigures) -> None:
        if isinstance(event, ReloadDone):
            figures.count_deploy("gone back" if event.back_to else "done")
        elif isinstance(event, ReloadFailed):
            figures.count_deploy("rolled back" if event.condemned else "failed")
        elif isinstance(event, ProcessAged):
            figures.count_restart("max_age")
        elif isinstance(event, ProcessGrown):
            figures.count_restart(event.limit)
        elif isinstance(event, WatcherScaled):
            figures.count_scaling("up" if event.after > event.before else "down")
        elif isinstance(event, DeadlineMissed):
            self._told.add(event.pid)
            figures.count_restart("late")
        elif isinstance(event, ProcessStuck):
            self._told.add(event.pid)
            figures.count_restart("stuck")
        elif isinstance(event, SpawnFailed):
            figures.count_restart("spawn")
        elif isinstance(event, ProcessExited):
            self._count_end(event, figures)

    def _count_end(self, event: ProcessExited, figures: WatcherFigures) -> None:
        told = event.pid in self._told
        self._told.discard(event.pid)
        if event.consequence in (
            Consequence.NONE,
            Consequence.FINISHED,
            Consequence.EXPECTED,
            Consequence.SUCCESSOR_STARTS,
        ):
            return
        if not told:
            figures.count_restart("signal" if event.signum is not None else "exit" if event.code else "ended")

    # Samples.

    def _sample_all(self) -> None:
        now = self._loop.now()
        self.lag.set(max(0.0, now - self._timer.deadline) if self._timer is not None else 0.0)
        self._timer = self._loop.call_later(INTERVAL, self._sample_all)
        if self._round is None:  # else so many are sampled that it takes longer than the interval
            self._round = self._steps(now)
            self._go_on()

    def _go_on(self) -> None:
        steps, self._round = self._round, None  # a bug ends one round
        enough = self._loop.now() + AT_A_TIME
        for _ in steps or ():
            if self._loop.now() >= enough:
                self._round = steps
                self._turn = self._loop.call_later(0.0, self._go_on)
                return

    def _steps(self, now: float) -> Iterator[None]:
        """Sample everything, and act on it, in steps."""
        for watcher in self._supervisor.watchers:
            with Barrier(self._supervisor.emit, f"the samples of {watcher.name}"):
                self._sample(watcher, now)
            yield
        for listener in tuple(self._supervisor.pool):
            if listener.is_open:
                with Barrier(self._supervisor.emit, f"the queue of socket {listener.name}"):
                    self._sample_queue(self.queues[listener.name], listener.sockets, now)
            yield
        if now - self._measured_at >= MEMORY_INTERVAL and self._is_weighed(now):
            self._measure(now)
        for act in self.on_sampled:
            with Barrier(self._supervisor.emit, "the limits of watchers"):
                yield from act(now)
        self._forget()

    def _is_weighed(self, now: float) -> bool:
        """Tell whether someone needs PSS."""
        return now - self._read_at < ATTENTION or any(_weighs(each) for each in self._supervisor.watchers)

    def _sample(self, watcher: Watcher, now: float) -> None:
        active, shares = 0, []
        for process in watcher.processes:
            if process.record < 0 or not process.is_ready:
                continue
            reading = watcher.processes.board.page(process.record)
            if reading.patience or reading.begun:
                running = min(max(reading.begun - reading.ended, 0), MOST_IN_FLIGHT)
                active += running
                shares.append(self._share(process, reading, running, now))
        watch = self.watchers[watcher.name]
        watch.active.set(active)
        watch.share = sum(shares) / len(shares) if shares else 0.0
        if shares:
            watch.busy.add(watch.share)

    def load_of(self, watcher: Watcher) -> Load:
        """Return how busy the workers of a watcher are now, and how many connections wait for them."""
        depths = [self.queues[name].depth.now for name in watcher.command.sockets if name in self.queues]
        return Load(self.watchers[watcher.name].share, int(max(depths, default=0)))

    def _share(self, process: Process, reading: PageReading, running: int, now: float) -> float:
        """Return how busy a worker is: by its requests in flight, or if their number is unlimited, by its CPU time."""
        if reading.capacity:
            return min(running / reading.capacity, 1.0)
        then, used, share = self._processor.get(process.pid, (now, -1.0, 0.0))
        if used < 0 or now - then >= PROCESSOR_INTERVAL:
            seconds = processor_seconds(process.pid)
            if seconds is not None:
                share = min(max(seconds - used, 0.0) / (now - then), 1.0) if used >= 0 else 0.0
                self._processor[process.pid] = (now, seconds, share)
        return share

    def _sample_queue(self, watch: QueueWatch, listeners: Sequence[socket.socket], now: float) -> None:
        listener, length = listeners[0], whole_length(listeners)
        watch.is_known = length is not None
        watch.knows_age = watch.is_known and listener.family != socket.AF_UNIX
        watch.depth.set(0 if length is None else length.waiting)
        watch.bound = 0 if length is None else length.bound
        if not watch.depth.now or not watch.knows_age:
            watch.oldest.set(0.0)
        elif now - watch.asked_at >= AGE_INTERVAL:
            watch.asked_at = now
            watch.oldest.set(oldest_in(listener) or 0.0)

    def _forget(self) -> None:
        names = {each.name for each in self._supervisor.watchers}
        for name in [each for each in self.watchers if each not in names]:
            del self.watchers[name]
        sockets = {each.name for each in self._supervisor.pool}
        for name in [each for each in self.queues if each not in sockets]:
            del self.queues[name]
        if len(self._processor) > 2 * len(self._supervisor.living) + 16:
            living = self._supervisor.living
            self._processor = {pid: each for pid, each in self._processor.items() if pid in living}

    # Memory.

    def _measure(self, now: float) -> None:
        self._measured_at = now
        pids = sorted(self._supervisor.living)
        if self._call is not None or not pids:
            return
        try:
            self._call = call_in_fork(
                self._loop,
                partial(proportional, pids),
                self._measured,
                title="forkserve: measures memory",
                timeout=MEMORY_TIMEOUT,
            )
        except OSError:  # short of processes or descriptors: the former values stay
            return

    def _measured(self, answer: Mapping[int, int] | Exception) -> None:
        self._call = None
        if not isinstance(answer, Exception):
            self.pss = answer


def _weighs(watcher: Watcher) -> bool:
    return bool(watcher.options.max_pss or watcher.options.max_pss_total)
