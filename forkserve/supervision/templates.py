"""The commands that one watcher's processes are made of, by generation, and those offered for the next.

Rules: plain data. A generation is a number, so that a job can name what it came from and go back to it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from forkserve.supervision.command import ProcessTemplate

__all__ = ["Templates"]


@dataclass(slots=True)
class Templates:
    """`generation` is the one in force, `newest` the highest that ever was; `offers` wait for a reload to begin.

    While `confined` names slots, the generation in force is for these alone, and all others have `before`.
    """

    by_generation: dict[int, ProcessTemplate]
    generation: int = 1
    newest: int = 1
    offers: dict[int, ProcessTemplate] = field(default_factory=dict)
    offered: int = 0
    confined: tuple[int, ...] = ()
    before: int = 0

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

    def adopt(self, command: ProcessTemplate) -> None:
        """Take over other options within this generation."""
        self.by_generation[self.generation] = command

    def open(self, offer: int, in_use: Container[int]) -> None:
        """Begin a generation with what was offered; keeps the one before, and those in use."""
        command = self.wanted(offer)
        self.withdraw(offer)
        kept = {number: each for number, each in self.by_generation.items() if number in in_use}
        self.by_generation = {**kept, self.generation: self.in_force}
        self.newest += 1
        self.generation = self.newest
        self.by_generation[self.generation] = command

    def put_back(self, generation: int) -> None:
        """Go back to a generation that is still kept."""
        self.generation, self.confined = generation, ()
