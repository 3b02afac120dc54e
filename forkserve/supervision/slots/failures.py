"""Failures of a watcher: what follows when a process ends by itself or could not be started, and how it is reported.

Rules: `lifecycle` decides; `population` carries the decision out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from forkserve.errors import FINAL
from forkserve.supervision.events import Consequence, Event
from forkserve.supervision.events.process import ProcessLost
from forkserve.supervision.generations.templates import Templates
from forkserve.supervision.lifecycle import Death, SlotTrigger, Verdict, judge
from forkserve.supervision.process import Process
from forkserve.supervision.processes.deaths import policy_of
from forkserve.supervision.processes.processes import Processes
from forkserve.supervision.slot import Outlook, Slot

__all__ = ["FailureTracker"]

_CONSEQUENCES: Mapping[SlotTrigger, Consequence] = {
    SlotTrigger.LOST: Consequence.RESTART,
    SlotTrigger.LOST_EARLY: Consequence.BACKOFF,
    SlotTrigger.GAVE_UP: Consequence.GIVEN_UP,
    SlotTrigger.FINISHED: Consequence.FINISHED,
}


class FailureTracker:
    """The failures of one watcher.

    `count` is the number of early deaths and failed starts of the current generation, which a reload checks; `last`
    describes the last one; `outlook` is what they mean for the next start.
    """

    def __init__(
        self,
        templates: Callable[[], Templates],
        processes: Processes,
        emit: Callable[[Event], None],
        changed: Callable[[], None],
    ) -> None:
        self.count = 0
        self.last = ""
        self.outlook = Outlook()
        self._templates = templates
        self._processes = processes
        self._emit = emit
        self._changed = changed

    def count_crash(self, process: Process) -> None:
        """Count an unrequested end by a signal, or with a code other than 0, for its generation."""
        if process.refusal is None and process.exit is not None and process.exit.code != 0:
            self._processes.figures.totals(process.generation).crashes += 1

    def report(self, lost: ProcessLost, consequence: Consequence) -> None:
        """Report that a process was lost, and what follows."""
        self._emit(replace(lost, consequence=consequence))

    def record(self, what: str, generation: int) -> None:
        """Record that a process of a generation was lost early, or could not be started."""
        if generation == self._templates().generation:
            self.count += 1
        if self.outlook.code is None:
            self.last = what
        self._changed()

    def judge(self, slot: Slot, lost: ProcessLost, death: Death) -> Verdict:
        """Return what follows for a slot whose occupant was lost, and report it."""
        options = self._templates().in_force.options
        policy = policy_of(options)
        verdict = judge(policy, slot.tally, death)
        slot.tally = verdict.tally
        slot.finished = slot.finished or verdict.event is SlotTrigger.FINISHED
        slot.served = slot.served if verdict.event is SlotTrigger.LOST else 0
        if verdict.event in (SlotTrigger.LOST_EARLY, SlotTrigger.GAVE_UP):
            self.record(lost.text(), lost.generation)
        # The same end for the same reason, which no retry fixes, is logged once.
        if verdict.event is not SlotTrigger.GAVE_UP or self.outlook.code is None:
            told = replace(
                lost,
                consequence=_consequence_of(
                    verdict.event, expected=death.expected, is_run=options.schedule is not None
                ),
                delay=verdict.delay,
                failed=0 if death.transient else verdict.tally.failed,
                max_retry=policy.max_retry,
            )
            self._emit(told)
        if verdict.event is SlotTrigger.GAVE_UP and self.outlook.code is None:
            self._give_up(death)
        return verdict

    def _give_up(self, death: Death) -> None:
        """If no other try can help, end those that would fail in the same way, so that it is reported once."""
        if death.code in FINAL:
            self.outlook.code = death.code
            self._processes.kill_all()


def _consequence_of(event: SlotTrigger, *, expected: bool, is_run: bool) -> Consequence:
    if event is not SlotTrigger.FINISHED:
        return _CONSEQUENCES[event]
    if is_run:
        return Consequence.NONE
    return Consequence.EXPECTED if expected else Consequence.FINISHED
