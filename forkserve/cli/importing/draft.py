"""The result of a reader: tables for a TOML file, and notes about what could not be converted.

Rules: pure. A note says what to do instead. Every key of the source is either in a table or in a note, or describes the
default behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Draft", "Scalar", "Table"]

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its path, such as `("watcher", "web")`, its keys, and where it comes from."""

    path: tuple[str, ...]
    values: Mapping[str, Scalar]
    origin: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of a watcher, written as its table `env`."""


class Draft:
    """Collects the tables and the notes of one import."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self._notes: dict[str, list[str]] = {}
        self.is_private = False
        """True if it contains values of a file that may be secret."""

    def add(
        self, *path: str, values: Mapping[str, Scalar], origin: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        """Add a table; one without keys, other than a variable's, is left out."""
        variables = dict(env or {})
        if values or variables:
            self.tables.append(Table(path, dict(values), origin, variables))
        for name in variables:
            if "$" in variables[name]:
                self._note_variable(f"{origin} {name}", variables[name])

    def note(self, place: str, message: str) -> None:
        """Note what is not converted; places with the same message share a line."""
        places = self._notes.setdefault(message, [])
        if place not in places:
            places.append(place)

    def holds(self, name: str) -> None:
        """Note that the result contains the variables of a file, so that only its owner may read it."""
        self.is_private = True
        self.note(name, "its variables are in the result as they are now; it is written for you alone (mode 0600)")

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each message, in the order of the source."""
        return tuple(f"{', '.join(places)}: {message}" for message, places in self._notes.items())

    def count(self, kind: str) -> int:
        """Return the number of tables of a kind, such as `watcher`."""
        return sum(each.path[0] == kind for each in self.tables)

    def _note_variable(self, place: str, text: str) -> None:
        if any(after[:1].isupper() or after[:1] == "_" for after in text.split("$")[1:]):
            self.note(place, "$NAME stands for a variable of the master here; check what the value becomes")
