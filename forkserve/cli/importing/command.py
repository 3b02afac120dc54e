"""The verb `forkserve import`: which format a file has, and where the result goes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from forkserve.cli.ending import say, tell
from forkserve.cli.helptext import CommandLineParser
from forkserve.cli.importing.circus import read_circus
from forkserve.cli.importing.compose import read_compose
from forkserve.cli.importing.draft import Draft
from forkserve.cli.importing.gunicorn import read_gunicorn
from forkserve.cli.importing.procfile import read_procfile
from forkserve.cli.importing.supervisord import read_supervisord
from forkserve.cli.importing.uwsgi import read_uwsgi
from forkserve.cli.importing.writer import written
from forkserve.config.build import build
from forkserve.config.document import Findings
from forkserve.config.toml import read_toml
from forkserve.config.userfiles import read_text
from forkserve.errors import ConfigError, ExitCode, UsageError

__all__ = ["run_import"]

_READERS: Mapping[str, Callable[[Path, Draft], None]] = {
    "circus": read_circus,
    "supervisord": read_supervisord,
    "uwsgi": read_uwsgi,
    "procfile": read_procfile,
    "compose": read_compose,
}
_FORMATS = (*_READERS, "gunicorn")
_MARKS = (
    ("uwsgi", ("[uwsgi]",)),
    ("supervisord", ("[program:", "[supervisord]", "[fcgi-program:", "[supervisorctl]")),
    ("circus", ("[circus]", "[watcher:", "[socket:", "[env:")),
)
_TIMEOUT = 10.0
"""Seconds that the code of a gunicorn.conf.py has to end."""

_DESCRIPTION = """\
Reads the configuration of another program and writes it as TOML for forkserve, with
comments. What could not be converted is listed on stderr, with what to do instead.

FILE is circus.ini, supervisord.conf, gunicorn.conf.py (which is executed), uwsgi.ini, a
Procfile, or compose.yaml (needs PyYAML)."""


class _Parser(CommandLineParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see forkserve import --help)")


def run_import(arguments: Sequence[str]) -> int:
    """Run the verb with its arguments; returns the exit code; raises ForkserveError."""
    given = _parser().parse_args(arguments)
    path = Path(given.file)
    if given.output is not None and not given.force and os.path.lexists(given.output):
        raise UsageError(f"{given.output} is there already; --force replaces it")
    draft = Draft()
    try:
        format_ = given.format or _format_of(path)
        if format_ == "gunicorn":
            read_gunicorn(path, draft, given.timeout)
        else:
            _READERS[format_](path, draft)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    if not draft.count("watcher"):
        raise ConfigError(f"{path}: nothing to run is in it, read as a file of {format_} (--from FORMAT)")
    text = written(draft, path.name)
    for note in draft.notes:
        tell(f"forkserve: not carried: {note}\n")
    for fault in _faults(text, given.output or "forkserve.toml"):
        tell(f"forkserve: to be fixed: {fault}\n")
    if given.output is None:
        say(text)
        return ExitCode.OK
    _write(Path(given.output), text, force=given.force, mode=0o600 if draft.is_private else 0o666)
    tell(f"forkserve: {given.output} is written; judge it: forkserve check {given.output}\n")
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="forkserve import",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("-o", "--output", metavar="OUT", help="file to write; stdout if not given")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    parser.add_argument("--from", dest="format", metavar="FORMAT", choices=_FORMATS, help=", ".join(_FORMATS))
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help="seconds that a gunicorn.conf.py may take (10)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, up to 3600, got {text!r}")
    return value


def _format_of(path: Path) -> str:
    """Detect the format by the name, or by a section that only one has; raises ConfigError and OSError."""
    if path.suffix == ".py":
        return "gunicorn"
    if path.suffix in (".yml", ".yaml"):
        return "compose"
    if path.name.startswith("Procfile"):
        return "procfile"
    lines = [line.strip() for line in read_text(path).split("\n")]
    for format_, marks in _MARKS:
        if any(line.startswith(marks) for line in lines):
            return format_
    raise ConfigError(f"{path}: unknown format; name it: --from {'|'.join(_FORMATS)}")


def _faults(text: str, name: str) -> tuple[str, ...]:
    """Return the errors of the result, which were errors of the source as well."""
    findings = Findings()
    build(read_toml(text, name, findings), os.environ, findings)
    return (*findings.errors, *findings.warnings)


def _write(path: Path, text: str, *, force: bool, mode: int) -> None:
    """Write a whole file; an existing one stays unless `force`; raises UsageError and ConfigError."""
    try:
        if not force:
            with open(path, "x", encoding="utf-8", opener=partial(os.open, mode=mode)) as file:
                file.write(text)
            return
        beside = path.with_name(f"{path.name}.new")
        beside.unlink(missing_ok=True)
        with open(beside, "x", encoding="utf-8", opener=partial(os.open, mode=mode)) as file:
            file.write(text)
        beside.replace(path)
    except FileExistsError:
        raise UsageError(f"{path} is there already; --force replaces it") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: cannot be written: a value is no UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
