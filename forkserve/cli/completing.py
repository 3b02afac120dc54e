"""What could come next on a line that is being typed: for the shells of the system and for forkservectl's own. Pure.

The names of watchers and sockets are asked for by a function that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from forkserve.cli.commandline import CommandLine, Flag, Word

__all__ = ["FILES", "Ask", "Candidate", "KindOfName", "completions"]


class KindOfName(Enum):
    """KindOfName that only a running master, or the configuration's declarations, can tell."""

    WATCHERS = "watchers"
    SOCKETS = "sockets"
    OPTIONS = "options"
    ASSIGNMENTS = "assignments"
    """Options of a watcher, each with an equals sign behind it."""
    SOCKET_ASSIGNMENTS = "socket assignments"
    INSTANCES = "instances"
    SIGNALS = "signals"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word that may be meant, and what it is."""

    word: str
    help: str = ""


Ask = Callable[[KindOfName], Iterable[str]]
"""Returns the names of a kind; none where they cannot be had."""
FILES = Candidate(":files", "a file")
"""Says that a file is expected, which the shell of the system knows better."""

_WORDS = {
    "watcher": KindOfName.WATCHERS,
    "target": KindOfName.WATCHERS,
    "socket": KindOfName.SOCKETS,
    "keys": KindOfName.OPTIONS,
    "file": KindOfName.FILES,
    "cmd": KindOfName.FILES,
    "signal": KindOfName.SIGNALS,
}
_FLAGS = {
    "config": KindOfName.FILES,
    "control_socket": KindOfName.FILES,
    "python": KindOfName.FILES,
    "exec": KindOfName.FILES,
    "instance": KindOfName.INSTANCES,
    "watcher": KindOfName.WATCHERS,
    "signum": KindOfName.SIGNALS,
}
"""What stands in a place, by the name of the parameter."""


def completions(line: CommandLine, before: Sequence[str], word: str, ask: Ask) -> list[Candidate]:
    """Return what may stand for `word`, of which a beginning is there, behind the words `before`."""
    at, places, flag = line, 0, None
    for each in before:
        if flag is not None:
            flag = None
        elif each.startswith("-") and each != "-":
            flag = _taking(at, each)
        elif at.verbs:
            verb = at.verb(each)
            if verb is None:
                return []
            at = verb
        else:
            places += 1
    if flag is not None:
        found = _of_flag(flag, ask)
    elif word.startswith("-"):
        found = [Candidate(each.long, each.help) for each in at.flags]
    elif at.verbs:
        found = [Candidate(each.name, each.help) for each in at.verbs]
    else:
        found = _of_place(at, places, ask)
    return [each for each in found if each is FILES or each.word.startswith(word)]


def _taking(line: CommandLine, word: str) -> Flag | None:
    """Return the flag that takes the next word for its value."""
    return next((each for each in line.flags if word in each.names and each.value is not None), None)


def _of_flag(flag: Flag, ask: Ask) -> list[Candidate]:
    if flag.choices:
        return [Candidate(each) for each in flag.choices]
    return _named(_FLAGS.get(flag.dest), ask)


def _of_place(line: CommandLine, place: int, ask: Ask) -> list[Candidate]:
    word = _word_at(line.words, place)
    if word is None:
        return []
    if word.choices:
        return [Candidate(each) for each in word.choices]
    if word.name == "options":
        return _named(KindOfName.SOCKET_ASSIGNMENTS if line.name.endswith("socket") else KindOfName.ASSIGNMENTS, ask)
    return _named(_WORDS.get(word.name), ask)


def _word_at(words: Sequence[Word], place: int) -> Word | None:
    if place < len(words):
        return words[place]
    return words[-1] if words and words[-1].many else None


def _named(names: KindOfName | None, ask: Ask) -> list[Candidate]:
    if names is KindOfName.FILES:
        return [FILES]
    return [] if names is None else [Candidate(each) for each in ask(names)]
