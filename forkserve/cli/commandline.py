"""What can be typed after a command, read from its parser: for completion and for man pages.

argparse has no public way to ask a parser for its arguments; what is read here (`_actions`, `_choices_actions`, groups)
has existed since Python 2.7, and other completers read the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["CommandLine", "Flag", "FlagGroup", "Word", "command_line"]


@dataclass(frozen=True, slots=True)
class Flag:
    """An option: its spellings, the shorter first, and its value; `value` is None for one without."""

    names: tuple[str, ...]
    dest: str
    value: str | None
    choices: tuple[str, ...]
    help: str

    @property
    def long(self) -> str:
        """The spelling that is offered."""
        return next((each for each in self.names if each.startswith("--")), self.names[0])


@dataclass(frozen=True, slots=True)
class FlagGroup:
    """Flags under one heading."""

    title: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A positional argument; with `many` any number of them may follow."""

    name: str
    choices: tuple[str, ...]
    help: str
    is_optional: bool
    many: bool


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command, or one of its verbs."""

    name: str
    help: str
    groups: tuple[FlagGroup, ...]
    words: tuple[Word, ...]
    verbs: tuple[CommandLine, ...] = ()
    usage: str = ""
    epilog: str = ""

    @property
    def flags(self) -> tuple[Flag, ...]:
        """All of them."""
        return tuple(flag for group in self.groups for flag in group.flags)

    def verb(self, name: str) -> CommandLine | None:
        """Return a verb by its name."""
        return next((each for each in self.verbs if each.name == name), None)


def command_line(parser: argparse.ArgumentParser, *, name: str | None = None, help: str | None = None) -> CommandLine:
    """Return the command line of a parser."""
    groups = [FlagGroup(each.title or "", tuple(_flags(each._group_actions))) for each in parser._action_groups]
    words = [each for each in parser._actions if not each.option_strings and each.help != argparse.SUPPRESS]
    verbs = [each for each in words if isinstance(each, argparse._SubParsersAction)]
    return CommandLine(
        name=name or parser.prog,
        help=help or parser.description or "",
        groups=tuple(each for each in groups if each.flags),
        words=tuple(_word(each) for each in words if each not in verbs),
        verbs=tuple(line for each in verbs for line in _verbs(each)),
        usage=parser.usage or "",
        epilog=parser.epilog or "",
    )


def _verbs(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[CommandLine]:
    helps = {each.dest: each.help for each in action._choices_actions}
    for name, parser in action.choices.items():
        yield command_line(parser, name=name, help=helps.get(name) or parser.description)


def _flags(actions: Sequence[argparse.Action]) -> Iterator[Flag]:
    for each in actions:
        if each.option_strings and each.help != argparse.SUPPRESS:
            names = tuple(sorted(each.option_strings, key=lambda name: (name.startswith("--"), "_" in name)))
            value = None if each.nargs == 0 else _metavar(each)
            yield Flag(names, each.dest, value, _choices(each), _help(each))


def _word(action: argparse.Action) -> Word:
    return Word(
        name=action.dest,
        choices=_choices(action),
        help=_help(action),
        is_optional=action.nargs in ("?", "*"),
        many=action.nargs in ("*", "+", argparse.REMAINDER),
    )


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar) if action.metavar else "|".join(_choices(action)) or action.dest.upper()


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")
