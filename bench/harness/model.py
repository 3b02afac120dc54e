"""The nouns of the comparison: what is measured, on whom, and what came out. Plain values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["DISTURBED", "VOID", "BenchError", "Better", "Cell", "Measurement", "Metric", "Sample", "Settings", "Status"]

DISTURBED, VOID = 0.1, 0.3
"""Cores that other programs kept busy: above the one figures deserve doubt, above the other a round does not count."""


class BenchError(Exception):
    """A server or a tool did not do what the measurement needs; the text says what, and the run goes on."""


class Status(StrEnum):
    """How one measurement of one server ended."""

    OK = "ok"
    FAILED = "failed"


class Better(StrEnum):
    """Which way a figure improves; NEITHER: it is shown, not judged."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a scenario: `name` is the key in the results, `label` and `unit` are for people."""

    name: str
    label: str
    unit: str = ""
    better: Better = Better.HIGHER
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One server in one variant of one scenario: what a round measures once."""

    scenario: str
    variant: str
    server: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement found. `errors` counts requests that failed, by kind; a zero is left out."""

    values: dict[str, float]
    errors: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the results file. `started` is seconds since the epoch; `noise` is foreign CPU use, in cores."""

    scenario: str
    variant: str
    server: str
    round: int
    status: Status
    started: float
    seconds: float
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    note: str = ""
    command: str = ""
    noise: float = 0.0

    @property
    def cell(self) -> Cell:
        """Return the cell this belongs to."""
        return Cell(self.scenario, self.variant, self.server)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measurement:
        """Read back what as_json wrote; raises TypeError for fields it does not know."""
        return cls(**{**data, "status": Status(data["status"])})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for.

    `duration` is whole seconds of load per timed run; empty tuples mean "all that apply".
    """

    duration: int = 2
    rounds: int = 3
    full: bool = False
    quick: bool = False
    scenarios: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        """Read back what a results file says of them, whatever else it says; raises TypeError or KeyError."""
        known = {name: data[name] for name in cls.__slots__}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})

    @property
    def repeats(self) -> int:
        """How often the long scenarios (deploy, memory, ...) are repeated.

        Once, or once less than the rounds in a full run.
        """
        return max(1, self.rounds - 1) if self.full else 1
