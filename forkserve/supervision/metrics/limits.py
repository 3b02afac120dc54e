"""Keeps watchers within their memory, and adapts their number of processes to load.

Theory of operation. The observatory calls when it has sampled everything. `weight` and `scaling` decide; the
consequence is the same as by hand: a process is replaced like one that has reached its age, and a job changes the
number of processes.

Rules: nothing is begun while a watcher has a job or replaces something: one change at a time. A start, which may go on
for ever where one slot fails again and again, keeps no process of the others from being replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import ConfigRead, Event, ProcessGrown, WatcherScaled
from forkserve.supervision.jobqueue.queue import JobQueue
from forkserve.supervision.jobs.advance import Resize, Start
from forkserve.supervision.metrics.observatory import Observatory
from forkserve.supervision.metrics.scaling import LoadSample, Scaler
from forkserve.supervision.metrics.weight import Footprint, MemoryLimits, heaviest_over
from forkserve.supervision.os.usage import resident
from forkserve.supervision.process import Process
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["LimitsKeeper", "memory_limits"]

WEIGHED_EVERY = 1.0
"""Seconds between two checks of the memory of a watcher's processes."""
YOUNG = 60.0
"""If a process reaches its limit within this many seconds, its replacement waits for `backoff_max`."""


def memory_limits(watcher: Watcher) -> MemoryLimits:
    """Return the memory limits of a watcher."""
    options = watcher.options
    return MemoryLimits(options.max_rss, options.max_pss, options.max_pss_total)


class LimitsKeeper:
    """Watches all watchers with limits."""

    def __init__(self, supervisor: Supervisor, observatory: Observatory) -> None:
        self._supervisor = supervisor
        self._observatory = observatory
        observatory.on_sampled.append(self.enforce)
        self._scalers: dict[str, Scaler] = defaultdict(Scaler)
        self._weighed: dict[str, float] = {}
        self._renewed: dict[str, float] = {}

    def begin(self) -> None:
        """Let the observatory sample, if a watcher has a limit."""
        options = [each.options for each in self._supervisor.watchers]
        if any(each.numprocesses_max or each.max_rss or each.max_pss or each.max_pss_total for each in options):
            self._observatory.begin()

    def on_event(self, event: Event) -> None:
        """Begin if the configuration asks for it; subscribed to the bus."""
        if isinstance(event, ConfigRead):
            self.begin()

    def enforce(self, now: float) -> Iterator[None]:
        """Called by the observatory when it has sampled everything; a step is one watcher."""
        for queue in tuple(self._supervisor):
            if self._supervisor.find(queue.watcher.name) is queue.watcher:
                with Barrier(self._supervisor.emit, f"the limits of {queue.watcher.name}"):
                    self._enforce_on(queue, now)
            yield
        names = {each.name for each in self._supervisor.watchers}
        for known in (self._scalers, self._weighed, self._renewed):
            for name in known.keys() - names:
                del known[name]

    def _enforce_on(self, queue: JobQueue, now: float) -> None:
        watcher, options = queue.watcher, queue.watcher.options
        if options.numprocesses_max and watcher.up:
            self._scale(queue, now)
        is_limited = options.max_rss or options.max_pss or options.max_pss_total
        if is_limited and now - self._weighed.get(watcher.name, 0.0) >= WEIGHED_EVERY:
            self._weighed[watcher.name] = now
            if _is_at_rest(queue):
                self._weigh(watcher, now)

    def _scale(self, queue: JobQueue, now: float) -> None:
        watcher, options = queue.watcher, queue.watcher.options
        if not queue.is_idle:
            return
        load = self._observatory.load_of(watcher)
        lowest, highest = max(options.numprocesses_min, 1), options.numprocesses_max
        if not (load.busy or load.queued) and watcher.target == lowest:  # most of a thousand do nothing
            self._scalers.pop(watcher.name, None)
            return
        slots = watcher.slots.values()
        ready = sum(slot.is_ready for slot in slots)
        renewing = sum(slot.serves > 0 for slot in slots) - ready
        sample = LoadSample(now, ready, load.busy, load.queued, renewing)
        wanted = self._scalers[watcher.name].decide(sample, watcher.target, lowest=lowest, highest=highest)
        if wanted != watcher.target:
            self._supervisor.emit(
                WatcherScaled(
                    watcher=watcher.name,
                    before=watcher.target,
                    after=wanted,
                    busy=round(load.busy, 2),
                    queued=load.queued,
                )
            )
            queue.submit(Resize(wanted))

    def _weigh(self, watcher: Watcher, now: float) -> None:
        processes = {each.number: each for each in watcher.processes.workers if each.is_ready}
        footprints = [self._footprint(each) for each in processes.values()]
        found = heaviest_over(footprints, memory_limits(watcher))
        if found is None or watcher.filler.renewal_at(now) > now:
            return
        process = processes[found.number]
        pause = watcher.options.backoff_max if now - process.started_at < YOUNG else 0.0
        if now - self._renewed.get(watcher.name, float("-inf")) < pause:
            return
        self._renewed[watcher.name] = now
        fact = ProcessGrown(**process.names(), limit=found.limit, measured=found.measured, allowed=found.allowed)
        watcher.renewal.renew(process, fact)

    def _footprint(self, process: Process) -> Footprint:
        return Footprint(process.number, resident(process.pid), self._observatory.pss.get(process.pid))


def _is_at_rest(queue: JobQueue) -> bool:
    """Tell whether nothing of a watcher is being replaced."""
    slots = queue.watcher.slots.values()
    replaces = any(each.candidate is not None or each.asking_beside or each.stops_first for each in slots)
    is_changed = queue.current is not None and not isinstance(queue.current.job, Start)
    return queue.watcher.up and not is_changed and not replaces
