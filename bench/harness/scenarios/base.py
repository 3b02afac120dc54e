"""What a scenario is: a question, who takes part, and one measurement of one server."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from bench.harness.context import Bench
from bench.harness.model import Cell, Metric, Sample, Settings
from bench.harness.servers import named

__all__ = ["Scenario", "Timed"]

# A measurement, and the command line of the server that it was taken from.
Timed = tuple[Sample, str]


class Scenario(ABC):
    """One comparison. The first metric is the headline: ratios are taken of it, against `baseline`.

    `question` stands above its table, `reading` (what the figures mean, and what they do not) below it. Where
    servers are compared with themselves, `versus` maps each to the row that it is divided by, and `versus_label` says
    what that is; such a scenario is no race and is left out of wins and losses. `divides` is False where a ratio of the
    headline says nothing: of what is next to zero in most of them. `most_rounds` is how many are enough.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    reading: ClassVar[str] = ""
    metrics: ClassVar[tuple[Metric, ...]]
    baseline: ClassVar[str] = ""
    versus: ClassVar[Mapping[str, str]] = {}
    versus_label: ClassVar[str] = ""
    divides: ClassVar[bool] = True
    most_rounds: ClassVar[int] = sys.maxsize
    servers: ClassVar[tuple[str, ...]]
    short_servers: ClassVar[tuple[str, ...]] = ()
    in_short: ClassVar[bool] = True
    in_quick: ClassVar[bool] = False

    def variants(self, settings: Settings) -> Iterable[str]:
        """Name the variants; one without a name by default."""
        return ("",)

    def takes_part(self, server: str, variant: str) -> bool:
        """Say whether a server can do this variant."""
        return True

    def baseline_of(self, variant: str) -> str:
        """Name the server that the others of this variant are divided by."""
        return self.baseline

    def base_of(self, variant: str, server: str) -> str:
        """Name the server that this one is divided by."""
        return self.versus.get(server, server) if self.versus else self.baseline_of(variant)

    def base_label(self, variant: str) -> str:
        """Say what the ratios of this variant are of."""
        return self.versus_label or self.baseline_of(variant)

    def rounds(self, settings: Settings) -> int:
        """How many rounds; the long scenarios override this."""
        return min(self.most_rounds, settings.rounds)

    def cells(self, settings: Settings) -> list[Cell]:
        """List what one round measures, in order."""
        pool = self.servers if settings.full or settings.servers else self.short_servers or self.servers
        asked = {*settings.servers, *(self.versus[name] for name in settings.servers if name in self.versus)}
        # The machine's limit is measured whoever else was asked for.
        wanted = [name for name in pool if not asked or name in asked or named(name).role == "limit"]
        return [
            Cell(self.name, variant, server)
            for variant in self.variants(settings)
            for server in wanted
            if self.takes_part(server, variant)
        ]

    @abstractmethod
    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Estimate how long one measurement takes."""

    @abstractmethod
    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Measure once; raises BenchError when the server does not do its part."""
