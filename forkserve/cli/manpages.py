"""Manual pages, made from the same declarations as the commands: man(7), for groff and mandoc alike.

    forkserve man forkservectl | man -l -
    forkserve man --to ~/.local/share/man/man1

Rules: pure, except for `write_pages`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from forkserve import __version__
from forkserve.cli.arguments import line_parser
from forkserve.cli.commandline import CommandLine, Flag, Word, command_line
from forkserve.cli.ctlparser import ctl_parser
from forkserve.cli.serving import WORKER, program_parser
from forkserve.config.reference import worker_options
from forkserve.errors import ForkserveError

__all__ = ["PAGES", "man_page", "write_pages"]

_SHORT = {
    "forkserve": "prefork WSGI and ASGI server with socket supervision",
    "forkserve-worker": "serve a WSGI or ASGI application on an inherited socket",
    "forkservectl": "control a running forkserve",
}
_PARSERS: Mapping[str, Callable[[], CommandLine]] = {
    "forkserve": lambda: command_line(line_parser(worker_options())),
    "forkserve-worker": lambda: command_line(program_parser(WORKER)),
    "forkservectl": lambda: command_line(ctl_parser()),
}
PAGES = tuple(_PARSERS)
"""The commands that have a page."""


def write_pages(folder: Path) -> list[Path]:
    """Write all pages into a folder, and return them; raises ForkserveError."""
    paths = [folder / f"{name}.1" for name in PAGES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_text(man_page(path.stem), encoding="utf-8")
    except OSError as error:
        raise ForkserveError(f"{error.filename}: {error.strerror}") from None
    return paths


def man_page(name: str) -> str:
    """Return the page of one of `PAGES`."""
    line = _PARSERS[name]()
    others = ", ".join(f"\\fB{_escaped(each)}\\fR(1)" for each in PAGES if each != name)
    parts = [
        f'.TH {name.upper()} 1 "" "forkserve {__version__}" "User Commands"',
        ".SH NAME",
        f"{_escaped(name)} \\- {_SHORT[name]}",
        ".SH SYNOPSIS",
        *_synopsis(line),
        ".SH DESCRIPTION",
        *_paragraphs(line.help),
    ]
    for group in line.groups:
        parts += [f".SH {_escaped(group.title.upper())}", *_flags(group.flags)]
    if line.verbs:
        parts += [".SH VERBS", *(part for verb in line.verbs for part in _verb(verb))]
    if line.epilog:
        parts += [".SH NOTES", *_paragraphs(line.epilog)]
    return "\n".join([*parts, ".SH SEE ALSO", others]) + "\n"


def _synopsis(line: CommandLine) -> Iterator[str]:
    usage = re.sub(r"^usage:\s*", "", line.usage)
    if line.verbs:
        usage = f"{line.name} [OPTIONS] VERB [ARGUMENTS]\n{line.name}"
    yield from (".nf", *(_line(each.strip()) for each in usage.splitlines()), ".fi")


def _verb(verb: CommandLine) -> Iterator[str]:
    words = "".join(f" {_word(each)}" for each in verb.words)
    yield f".SS {_escaped(verb.name)}{words}"
    yield _line(verb.help)
    for each in verb.words:
        if each.help:
            yield from (".TP", f"\\fI{_escaped(_shown(each))}\\fR", _line(each.help))
    yield from _flags(each for each in verb.flags if each.dest not in ("help", "json", "prettify"))


def _shown(word: Word) -> str:
    return "|".join(word.choices) or word.name.upper()


def _word(word: Word) -> str:
    text = f"\\fI{_escaped(_shown(word))}\\fR{' ...' if word.many else ''}"
    return f"[{text}]" if word.is_optional else text


def _flags(flags: Iterable[Flag]) -> Iterator[str]:
    for each in flags:
        # Circus's spellings with an underscore are accepted, but listed once
        names = [name for name in each.names if "_" not in name or name.replace("_", "-") not in each.names]
        spelled = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in names)
        value = "" if each.value is None else f" \\fI{_escaped(each.value)}\\fR"
        yield from (".TP", f"{spelled}{value}", _line(each.help or "."))


def _paragraphs(text: str) -> Iterator[str]:
    """Keep the lines of paragraphs with indented ones, which are examples or tables; fill the others."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = paragraph.splitlines()
        as_it_is = any(each.startswith(" ") for each in lines)
        yield from ((".PP", ".nf") if as_it_is else (".PP",))
        yield from map(_line, lines)
        if as_it_is:
            yield ".fi"


def _line(text: str) -> str:
    """Return a line of text, escaped so that roff does not take it for a request."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
