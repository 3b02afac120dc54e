"""The commands of one watcher's processes, by generation, and those offered for the next one.

Rules: plain data. A generation is a number, so that a job can name where it came from and go back to it.
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
    """`generation` is the current one, `newest` the highest so far; `offers` wait for a reload to begin.

    `folders` are the working directories of generations, links resolved; `good` are those that have served as they
    should and can be returned to, the last one at the end. `served` are the last two that have, although they may start
    the same command: their zygotes differ in what they have imported.

    `opened_from` is the generation that was current before the newest, to which a reload may go back; 0 if there was
    none.

    While `confined` names slots, the current generation is only for these, and all others have `before`.
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
        """The command of the next process."""
        return self.by_generation[self.generation]

    def generation_of(self, wid: int) -> int:
        """Return the generation of the next process of a slot."""
        return self.before if self.confined and wid not in self.confined else self.generation

    def confine(self, slots: tuple[int, ...], before: int) -> None:
        """Confine the current generation to these slots; without any, use it in all."""
        self.confined, self.before = slots, before
        if slots:
            self.by_generation[before] = self.pinned(before)

    def note_folder(self, generation: int, folder: str) -> None:
        """Record where the first process of a generation was started."""
        if folder:
            self.folders.setdefault(generation, folder)

    def pinned(self, generation: int) -> ProcessTemplate:
        """Return the command of a generation, to be started in the folder of its processes, wherever links lead now."""
        command = self.by_generation[generation]
        return replace(command, folder=self.folders.get(generation, command.folder))

    @property
    def last_good(self) -> int:
        """The generation to go back to from the current one, 0 if there is none that differs."""
        return next((each for each in reversed(self.good) if not self._is_same(each, self.generation)), 0)

    def _is_same(self, one: int, other: int) -> bool:
        """Tell whether two generations would start the same: a restart creates another one that does."""
        return one == other or self.pinned(one) == self.pinned(other)

    def approve(self, generation: int, instead_of: tuple[int, ...] = ()) -> None:
        """Note that a generation is good; those that it replaces are no targets of a rollback."""
        others = (each for each in self.good if each not in instead_of)
        kept = [each for each in others if not self._is_same(each, generation)]
        self.good = [*kept, generation][-KEPT:]
        self.served = [*(each for each in self.served if each not in (generation, *instead_of)), generation][-2:]

    def offer(self, command: ProcessTemplate) -> int:
        """Store a command for a coming reload; returns its number, never 0."""
        self.offered += 1
        self.offers[self.offered] = command
        return self.offered

    def withdraw(self, offer: int) -> None:
        """Forget an offer that will not be used."""
        self.offers.pop(offer, None)

    def wanted(self, offer: int) -> ProcessTemplate:
        """Return the command of an offer, or the current one for 0."""
        return self.offers.get(offer, self.in_force)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Start processes with other options than are configured, which a hook has asked for, until the next start."""
        if changes != self.in_force.changes:
            self.by_generation[self.generation] = replace(self.in_force, changes=changes)

    def adopt(self, command: ProcessTemplate) -> None:
        """Apply other options within this generation, whose folder stays."""
        before = self.in_force
        self.by_generation[self.generation] = replace(command, folder=before.folder, changes=before.changes)

    def open(self, offer: int, in_use: Container[int], *, follow: bool = True) -> None:
        """Open a generation with the offered command; keeps the one before, those in use and the good ones.

        With offer 0 it is the current command, and `follow` resolves links again.
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
        """Forget the generations without processes that are no targets of a rollback."""
        staying = {self.generation, self.opened_from or self.generation, *self.good}
        self.by_generation = {n: each for n, each in self.by_generation.items() if n in in_use or n in staying}
        self.folders = {n: folder for n, folder in self.folders.items() if n in self.by_generation}

    def put_back(self, generation: int) -> None:
        """Go back to a generation that is still kept."""
        self.generation, self.confined = generation, ()
        self.by_generation[generation] = self.pinned(generation)
