"""What could come next on a line that is being typed: for the system's shells and for forkservectl's own. Pure.

A function is passed in that returns the names of watchers and sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from forkserve.cli.commandline import CommandLine, Flag, Word

__all__ = ["FILES", "Ask", "Candidate", "KindOfName", "completions"]


class KindOfName(Enum):
    """Kinds of names that only a running master, or the declarations of options, can supply."""

    WATCHERS = "watchers"
    SOCKETS = "sockets"
    OPTIONS = "options"
    ASSIGNMENTS = "assignments"
    """Options of a watcher, each followed by an equals sign."""
    SOCKET_ASSIGNMENTS = "socket assignments"
    INSTANCES = "instances"
    SIGNALS = "signals"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible word, and its description."""

    word: str
    help: str = ""


Ask = Callable[[KindOfName], Iterable[str]]
"""Returns the names of a kind; none if they are unavailable."""
FILES = Candidate(":files", "a file")
"""Means that a file is expected, which the system's shell completes better."""

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
"""What is expected, by the name of the parameter."""


def completions(line: CommandLine, before: Sequence[str], word: str, ask: Ask) -> list[Candidate]:
    """Return possible words that begin with `word`, after the words `before`."""
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
    """Return the flag whose value is the next word."""
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
