"""The commands that one watcher's processes are made of, by generation, and those offered for the next.

Rules: plain data. A generation is a number, so that a job can name what it came from and go back to it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from forkserve.supervision.spawning.command import ProcessTemplate

__all__ = ["Templates"]

KEPT = 6
"""Good generations that are kept."""


@dataclass(slots=True)
class Templates:
    """`generation` is the one in force, `newest` the highest that ever was; `offers` wait for a reload to begin.

    `folders` are the working directories of generations, links resolved; `good` are those that have served as they
    should and can be gone back to, the last one at the end. `served` are the last two that have, though they may start
    the same: their zygotes differ in what they have imported.

    `opened_from` is the generation that was in force before the newest, which a reload may go back to; 0 while there
    was none.

    While `confined` names slots, the generation in force is for these alone, and all others have `before`.
    """

    by_generation: dict[int, ProcessTemplate]
    generation: int = 1
    newest: int = 1
    offers: dict[int, ProcessTemplate] = field(default_factory=dict)
    offered: int = 0
    confined: tuple[int, ...] = ()
    before: int = 0
    opened_from: int = 0
    folders: dict[int, str] = field(default_factory=dict)
    good: list[int] = field(default_factory=list)
    served: list[int] = field(default_factory=list)

    @property
    def in_force(self) -> ProcessTemplate:
        """The command that the next process is started with."""
        return self.by_generation[self.generation]

    def generation_of(self, wid: int) -> int:
        """Return the generation that the next process of a slot is of."""
        return self.before if self.confined and wid not in self.confined else self.generation

    def confine(self, slots: tuple[int, ...], before: int) -> None:
        """Have the generation in force in these slots only; without any, in all."""
        self.confined, self.before = slots, before
        if slots:
            self.by_generation[before] = self.pinned(before)

    def note_folder(self, generation: int, folder: str) -> None:
        """Note where the first process of a generation was started."""
        if folder:
            self.folders.setdefault(generation, folder)

    def pinned(self, generation: int) -> ProcessTemplate:
        """Return the command of a generation, to be started where its processes were, wherever links lead by now."""
        command = self.by_generation[generation]
        return replace(command, folder=self.folders.get(generation, command.folder))

    @property
    def last_good(self) -> int:
        """The generation to go back to from the one in force, 0 when there is none that differs."""
        return next((each for each in reversed(self.good) if not self._is_same(each, self.generation)), 0)

    def _is_same(self, one: int, other: int) -> bool:
        """Tell whether two generations would start the same: a restart makes another one that does."""
        return one == other or self.pinned(one) == self.pinned(other)

    def approve(self, generation: int, instead_of: tuple[int, ...] = ()) -> None:
        """Note that a generation is good; those that it is in the place of are not gone back to."""
        others = (each for each in self.good if each not in instead_of)
        kept = [each for each in others if not self._is_same(each, generation)]
        self.good = [*kept, generation][-KEPT:]
        self.served = [*(each for each in self.served if each not in (generation, *instead_of)), generation][-2:]

    def offer(self, command: ProcessTemplate) -> int:
        """Keep a command for a reload to come; returns its number, never 0."""
        self.offered += 1
        self.offers[self.offered] = command
        return self.offered

    def withdraw(self, offer: int) -> None:
        """Forget an offer that will not be taken."""
        self.offers.pop(offer, None)

    def wanted(self, offer: int) -> ProcessTemplate:
        """Return the command of an offer, or the one in force for 0."""
        return self.offers.get(offer, self.in_force)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Start processes with other options than are configured, which a hook has asked for, until the next start."""
        if changes != self.in_force.changes:
            self.by_generation[self.generation] = replace(self.in_force, changes=changes)

    def adopt(self, command: ProcessTemplate) -> None:
        """Take over other options within this generation, which stays where it is."""
        before = self.in_force
        self.by_generation[self.generation] = replace(command, folder=before.folder, changes=before.changes)

    def open(self, offer: int, in_use: Container[int], *, follow: bool = True) -> None:
        """Begin a generation with what was offered; keeps the one before, those in use and those that were good.

        With offer 0 it is the command in force, and `follow` has it started where links lead by now.
        """
        command = replace(self.wanted(offer), changes=self.in_force.changes)
        if not offer and follow:
            command = replace(command, folder="")
        self.withdraw(offer)
        self.opened_from = self.generation
        self.newest += 1
        self.generation = self.newest
        self.by_generation[self.generation] = command
        self.prune(in_use)

    @property
    def has_more(self) -> bool:
        """True when there are generations that `prune` may forget."""
        staying = {self.generation, self.opened_from, *self.good}
        return self.opened_from > 0 and not self.by_generation.keys() <= staying

    def prune(self, in_use: Container[int]) -> None:
        """Forget the generations that nothing is of any more and that are not gone back to."""
        staying = {self.generation, self.opened_from or self.generation, *self.good}
        self.by_generation = {n: each for n, each in self.by_generation.items() if n in in_use or n in staying}
        self.folders = {n: folder for n, folder in self.folders.items() if n in self.by_generation}

    def put_back(self, generation: int) -> None:
        """Go back to a generation that is still kept."""
        self.generation, self.confined = generation, ()
        self.by_generation[generation] = self.pinned(generation)
