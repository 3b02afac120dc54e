"""Watches a canary: reads the figures of both generations repeatedly, until there is a verdict.

Theory of operation. `begin` records what both generations had counted; from then on their differences are compared
(`verdict`). A look reads the counters of a few processes at a time, so that hundreds of them delay no event. The
state is plain data, `Trial`; the job decides what follows from the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from forkserve.config.model import WatcherOptions
from forkserve.supervision.figures import GenerationFigures
from forkserve.supervision.jobs.verdict import CanaryLimits, CanaryOutcome, CanaryVerdict, compare
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.usage import resident
from forkserve.supervision.processes.processes import Processes

__all__ = ["CanaryWatch", "Trial", "limits_of"]

OPEN = CanaryVerdict(CanaryOutcome.OPEN)

INTERVAL = 0.25
"""Seconds between two looks."""
AT_A_TIME = 20
"""Processes whose counters are read at a stretch."""
WEIGHED = 20
"""Processes of a generation whose memory is read."""


@dataclass(slots=True, kw_only=True)
class Trial:
    """One comparison, from `began` to `until`.

    `before` are the figures of the old and of the new generation at its begin, `seen` what they have counted since;
    `uncounted` are processes still to be read in this look.
    """

    began: float
    until: float
    look_at: float
    limits: CanaryLimits
    before: tuple[GenerationFigures, GenerationFigures]
    seen: tuple[GenerationFigures, GenerationFigures]
    uncounted: list[int] = field(default_factory=list)
    verdict: CanaryVerdict = OPEN


def limits_of(options: WatcherOptions) -> CanaryLimits:
    """Return how much worse a canary may be, from the options of its watcher."""
    return CanaryLimits(
        requests=options.canary_requests,
        errors=options.canary_errors,
        latency=options.canary_latency,
        memory=options.canary_memory,
    )


class CanaryWatch:
    """The comparison of one watcher, if there is one; `changed` is called after each look."""

    def __init__(self, processes: Processes, loop: Loop, changed: Callable[[], None]) -> None:
        self.trial: Trial | None = None
        self._processes = processes
        self._loop = loop
        self._changed = changed

    @property
    def next_instant(self) -> float | None:
        """The instant of the next look."""
        trial = self.trial
        return None if trial is None or trial.verdict != OPEN else trial.look_at

    def begin(self, old: int, new: int, seconds: float, limits: CanaryLimits) -> None:
        """Compare two generations for this many seconds."""
        now = self._loop.now()
        for process in self._processes:
            self._processes.count(process)
        before = (self._figures(old), self._figures(new))
        nothing = (before[0].since(before[0]), before[1].since(before[1]))
        self.trial = Trial(
            began=now, until=now + seconds, look_at=now + INTERVAL, limits=limits, before=before, seen=nothing
        )

    def end(self) -> None:
        """End the comparison."""
        self.trial = None

    def due(self, now: float) -> None:
        """Read the counters of some processes, and compare when all have been read."""
        trial = self.trial
        if trial is None or trial.verdict != OPEN or trial.look_at > now:
            return
        if not trial.uncounted:
            trial.uncounted = sorted(self._processes.by_number)
        for number in trial.uncounted[:AT_A_TIME]:
            process = self._processes.by_number.get(number)
            if process is not None:
                self._processes.count(process)
        del trial.uncounted[:AT_A_TIME]
        trial.look_at = now if trial.uncounted else min(now + INTERVAL, max(trial.until, now + INTERVAL / 10))
        if not trial.uncounted:
            old, new = (self._figures(each.generation).since(each) for each in trial.before)
            trial.seen = (old, new)
            trial.verdict = compare(old, new, trial.limits, is_over=now >= trial.until)
            self._changed()

    def _figures(self, generation: int) -> GenerationFigures:
        serving = [
            each for each in self._processes if each.generation == generation and each.is_ready and not each.is_zygote
        ]
        sizes = [size for each in serving[:WEIGHED] if (size := resident(each.pid)) is not None]
        return self._processes.figures.of(
            generation,
            now=self._loop.now(),
            processes=len(serving),
            memory=sum(sizes) // len(sizes) if sizes else 0,
        )
