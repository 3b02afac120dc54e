"""Checks and their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forkserve.testing.client import Fault

if TYPE_CHECKING:
    from forkserve.testing.worker import WorkerUnderTest

__all__ = ["Check", "Fault", "Outcome", "SuiteReport"]


@dataclass(frozen=True, slots=True)
class Check:
    """One property to check of a backend; `run` raises Failed. `name` is a sentence."""

    name: str
    run: Callable[[WorkerUnderTest], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a check; `reason` is empty if it passed."""

    name: str
    reason: str = ""
    fault: Fault = Fault.OTHER

    @property
    def passed(self) -> bool:
        """Whether the check passed."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """All outcomes of one suite for one backend under one interface."""

    backend: str
    interface: str
    suite: str
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes of the failed checks."""
        return tuple(each for each in self.outcomes if not each.passed)

    def __str__(self) -> str:
        total = len(self.outcomes)
        lines = [f"{self.backend} ({self.interface}), {self.suite}: {total - len(self.failures)} of {total}"]
        return "\n".join([*lines, *(f"  {each.name}: {each.reason}" for each in self.failures)])
