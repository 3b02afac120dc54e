"""The output of the readers of files and of the command line: sections of texts, each with its place.

Rules: pure. A document knows nothing about options. When documents are merged, the first value wins, as in Circus: the
command line comes before the main file, the main file before its includes. Nothing is dropped without a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from forkserve.config.options import Origin
from forkserve.errors import ConfigError, ConfigErrors, ExitCode

__all__ = ["Findings", "Kind", "Section", "Value", "merge"]


class Kind(Enum):
    """How a value was written: as untyped text (INI, command line, a placeholder), or as a type of TOML."""

    TEXT = "text"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Value:
    """The text of one value, and where it was given."""

    text: str
    origin: Origin
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Section:
    """One section; `title` is Circus's (`circus`, `watcher:web`, `env:a,b*`), `label` what the user wrote."""

    title: str
    values: Mapping[str, Value]
    origin: Origin
    label: str
    strict: bool = False
    """An unknown key is an error, not a warning."""

    @property
    def kind(self) -> str:
        """The word before the colon: circus, watcher, socket, plugin, env."""
        return self.title.partition(":")[0]

    @property
    def name(self) -> str:
        """The text after the colon."""
        return self.title.partition(":")[2].strip()


class Findings:
    """Collects what is wrong in one reading, so that everything is reported at once, and each thing once.

    With `judging`, what makes one watcher fail and leaves the others alone is an error: for `forkserve check`.
    """

    def __init__(self, *, judging: bool = False) -> None:
        self.judging = judging
        self._errors: list[tuple[Origin, str]] = []
        self._warnings: list[tuple[Origin, str]] = []

    @property
    def errors(self) -> tuple[str, ...]:
        """The mistakes, file by file and line by line."""
        return _in_order(self._errors)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is ignored or odd, file by file and line by line."""
        errors = {text for _, text in self._errors}
        return tuple(text for text in _in_order(self._warnings) if text not in errors)

    def error(self, origin: Origin, message: str, *, label: str = "", key: str = "") -> None:
        """Add a mistake; the configuration cannot be used."""
        self._errors.append((origin, _line(origin, message, label=label, key=key)))

    def warning(self, origin: Origin, message: str, *, label: str = "", key: str = "") -> None:
        """Add a warning about something ignored or odd."""
        self._warnings.append((origin, _line(origin, message, label=label, key=key)))

    def failure(self, origin: Origin, message: str, *, label: str = "", key: str = "") -> None:
        """Add something that will fail at the start: a mistake if this is a judgement, else a warning."""
        (self.error if self.judging else self.warning)(origin, message, label=label, key=key)

    def raise_errors(self) -> None:
        """Raise ConfigErrors if there is any mistake: with the exit code of bad usage if all of them were typed."""
        if not self._errors:
            return
        error = ConfigErrors(tuple(map(ConfigError, self.errors)), self.warnings)
        if all(origin.is_argument for origin, _ in self._errors):
            error.exit_code = ExitCode.USAGE
        raise error


def _in_order(notes: list[tuple[Origin, str]]) -> tuple[str, ...]:
    sources = list(dict.fromkeys(origin.source for origin, _ in notes))
    ordered = sorted(notes, key=lambda note: (sources.index(note[0].source), note[0].line or 0))
    return tuple(dict.fromkeys(text for _, text in ordered))


def _line(origin: Origin, message: str, *, label: str, key: str) -> str:
    # A flag says by itself which option it is.
    named = () if origin.is_argument else (f"[{label}]" if label else "", key)
    place = " ".join(part for part in (str(origin), *named) if part)
    return f"{place}: {message}"


def merge(sections: Iterable[Section], findings: Findings) -> tuple[Section, ...]:
    """Merge sections of the same title; the first value of a key wins and a later, different one gets a warning."""
    merged: dict[str, Section] = {}
    for section in sections:
        first = merged.get(section.title)
        if first is None:
            merged[section.title] = section
            continue
        values = dict(first.values)
        for key, value in section.values.items():
            kept = values.setdefault(key, value)
            if kept.text != value.text and not kept.origin.is_argument:
                findings.warning(value.origin, f"already set at {kept.origin}, ignored", label=section.label, key=key)
        # the command line has no section: it is called, and judged, as in the file
        told = section if first.values and all(each.origin.is_argument for each in first.values.values()) else first
        merged[section.title] = Section(first.title, values, told.origin, told.label, told.strict)
    return tuple(merged.values())
