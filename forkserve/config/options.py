"""One option is one typed dataclass field; everything else about it is read off that field.

The type checker takes the annotation; the INI and TOML readers take name, aliases and `parse`; the command line takes
`cli`, `metavar` and `help`; the reload planner takes `reload`; the documentation takes all of it. So adding an option
is adding one line.

    @dataclass(frozen=True)
    class WatcherOptions:
        numprocesses: int = option(1, "Processes to keep running.", parse=integer, check=at_least(0))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

__all__ = [
    "Check",
    "MISSING",
    "Option",
    "Origin",
    "Parse",
    "ReloadCost",
    "differing",
    "names_of",
    "option",
    "options_of",
    "read_value",
    "slices_of",
    "with_bare_values",
]

Parse = Callable[[str], Any]
"""Parses the text of a value; raises ValueError with a text such as `expected an integer, got 'x'`."""

Check = Callable[[Any], str | None]
"""Checks a parsed value; returns what is wrong with it (`must be at least 0`), or None."""

MISSING: Any = dataclasses.MISSING


class ReloadCost(Enum):
    """What a change of an option's value costs at a reload, from cheapest to most expensive."""

    LIVE = "applied at once"
    RESPAWN = "processes are replaced one by one"
    REBIND = "the socket is rebound"
    RESTART = "needs a restart of forkserve"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was given: `circus.ini:14`, `environment WEB_CONCURRENCY`, `argument --workers`, `control`."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"

    @property
    def is_argument(self) -> bool:
        """True for what was typed on a command line."""
        return self.source.startswith("argument ")


@dataclass(frozen=True, slots=True)
class Option:
    """The record of one option, for every reader of options."""

    name: str
    default: Any
    help: str
    parse: Parse
    check: Check | None
    reload: ReloadCost
    cli: tuple[str, ...]
    aliases: tuple[str, ...]
    env: str | None
    metavar: str | None
    many: bool
    choices: tuple[str, ...]
    bare: str | None
    """The value of the flag without a value; only with `choices`, so that the next word can be told from a value."""
    group: str

    @property
    def required(self) -> bool:
        """True when the option has no default."""
        return self.default is MISSING

    def read(self, text: str) -> Any:
        """Return the value of a text, parsed and checked; raises ValueError that says what is wrong with it."""
        return read_value(text, self.parse, self.check)


def read_value(text: str, parse: Parse, check: Check | None) -> Any:
    """Return the value of a text, parsed and checked; raises ValueError that says what is wrong with it."""
    value = parse(text)
    wrong = check(value) if check else None
    if wrong:
        raise ValueError(wrong)
    return value


def option(  # noqa: PLR0913 - a declaration has as many parts as it has
    default: Any,
    help: str,
    *,
    parse: Parse = str,
    check: Check | None = None,
    reload: ReloadCost = ReloadCost.RESPAWN,
    cli: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    env: str | None = None,
    metavar: str | None = None,
    many: bool = False,
    choices: tuple[str, ...] = (),
    bare: str | None = None,
    group: str = "",
) -> Any:
    """Declare a dataclass field that is an option; `default` MISSING makes it required.

    `many` means that the option may be given several times and its value is a tuple of parsed values. The return type
    is Any, like that of `dataclasses.field`: the annotation beside it is what counts.
    """
    record = {
        "help": help, "parse": parse, "check": check, "reload": reload, "cli": cli, "aliases": aliases,
        "env": env, "metavar": metavar, "many": many, "choices": choices, "bare": bare, "group": group,
    }  # fmt: skip
    if default is MISSING:
        return dataclasses.field(metadata={"option": record})
    return dataclasses.field(default=default, metadata={"option": record})


_declared: dict[type[Any], tuple[Option, ...]] = {}


def options_of(cls: type[Any]) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order of declaration."""
    if cls not in _declared:  # kept, since it is asked for at each start of a process
        _declared[cls] = tuple(
            Option(name=field.name, default=field.default, **field.metadata["option"])
            for field in dataclasses.fields(cls)
            if "option" in field.metadata
        )
    return _declared[cls]


def differing(before: object, after: object) -> tuple[str, ...]:
    """Return the names of the options that differ in two objects of one such dataclass."""
    names = (each.name for each in options_of(type(before)))
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def names_of(*classes: type[Any]) -> frozenset[str]:
    """Return the names of all options of these dataclasses, and of the dataclasses of their fields."""
    return frozenset(each.name for cls in classes for part in slices_of(cls) for each in options_of(part))


def slices_of(cls: type[Any]) -> tuple[type[Any], ...]:
    """Return the dataclasses that declare the options of `cls`: itself, and those of its fields."""
    parts: list[Any] = [each.default_factory for each in dataclasses.fields(cls)]
    below = [
        each for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part) for each in slices_of(part)
    ]
    return (cls, *below) if options_of(cls) else tuple(below)


def with_bare_values(argv: Sequence[str], options: Iterable[Option]) -> list[str]:
    """Return a command line in which each flag that may stand alone, and does, has got its value."""
    bare = {flag: each for each in options if each.bare is not None for flag in each.cli}
    return [
        f"{word}={bare[word].bare}" if word in bare and after.lower() not in bare[word].choices else word
        for word, after in pairwise([*argv, ""])
    ]
