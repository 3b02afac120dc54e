"""Reads configuration files, and reads them again for a reload.

Rules: a file that ends in `.toml` is TOML; `.ini`, `.cfg` and `.conf` are Circus's grammar; any other is recognised by
its content. `include` and `include_dir` apply in the main file only and are relative to its folder. The first value
wins: the command line overrides the main file, and that its includes.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from forkserve.config.build import build, expanded
from forkserve.config.document import Findings, Section
from forkserve.config.foreign import FOREIGN
from forkserve.config.ini import read_ini
from forkserve.config.model import Config
from forkserve.config.options import Origin
from forkserve.config.system import verify
from forkserve.config.toml import read_toml
from forkserve.config.userfiles import read_text
from forkserve.config.values import paths

__all__ = ["ConfigSource", "Examine", "FileSource", "LineSource", "load"]


Examine = Callable[[Config, Mapping[str, str], Findings], None]
"""Checks a configuration and the master's environment, and reports findings."""


class ConfigSource(Protocol):
    """Where a configuration comes from; it is read at the start and at each reload."""

    @property
    def description(self) -> str:
        """Its name in process titles and log lines: the file's path, or `command line`."""

    @property
    def path(self) -> str | None:
        """The absolute path of the main file, if there is one."""

    def read(self) -> Config:
        """Read it again; raises ConfigErrors with everything that is wrong."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A main file with its includes; `overrides` and `env` come from the command line and override it."""

    path: str
    overrides: tuple[Section, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    shown: str | None = None
    """The path as the user wrote it, for messages."""
    examine: Examine | None = None
    """Further checks, as for `forkserve check`."""

    @property
    def description(self) -> str:
        """The path as the user wrote it."""
        return self.shown or self.path

    def read(self) -> Config:
        """Read the file and its includes; raises ConfigErrors."""
        return _with_env(load(self.path, overrides=self.overrides, shown=self.shown, examine=self.examine), self.env)


@dataclass(frozen=True, slots=True)
class LineSource:
    """A configuration from the command line alone; a reload finds the same one."""

    sections: tuple[Section, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    examine: Examine | None = None
    unread: tuple[str, ...] = ()
    """Variables of the environment that are set for a program like ours."""

    @property
    def description(self) -> str:
        """What the log calls it."""
        return "command line"

    def read(self) -> Config:
        """Build the configuration; raises ConfigErrors."""
        findings = Findings(judging=self.examine is not None)
        for name in self.unread:
            findings.warning(Origin(f"environment {name}"), "is not read; give its flags on the command line")
        return _with_env(_finished(self.sections, os.environ, findings, self.examine), self.env)


def load(
    path: str,
    *,
    overrides: Sequence[Section] = (),
    environ: Mapping[str, str] | None = None,
    shown: str | None = None,
    examine: Examine | None = None,
) -> Config:
    """Read a file, its includes, and the system's names; raises ConfigErrors with every error found.

    `overrides` override the file; `environ` is the master's environment, by default the real one; `shown` is the path
    in messages. With `examine` it is a judgement: what would fail at the start is an error, too.
    """
    environ = os.environ if environ is None else environ
    findings = Findings(judging=examine is not None)
    main = _read(Path(path), shown or path, findings)
    included = [
        each for file in _included(main, Path(path).parent, environ=environ, findings=findings) for each in file
    ]
    sections = [*overrides, *main, *included]
    if not any(each.kind == "watcher" for each in sections):
        _note_nothing_to_run(sections, shown or path, findings)
    return _finished(sections, environ, findings, examine)


def _note_nothing_to_run(sections: Sequence[Section], shown: str, findings: Findings) -> None:
    """Report an empty file, which is more likely half written than meant; another program's file is reported at
    the check.
    """
    if findings.errors or any(each.kind in FOREIGN and FOREIGN[each.kind].runs for each in sections):
        return
    findings.error(Origin(shown), "no watcher, nothing to run: a section [watcher:NAME] with a cmd is needed")


def _finished(
    sections: Sequence[Section], environ: Mapping[str, str], findings: Findings, examine: Examine | None = None
) -> Config:
    config = build(sections, environ, findings)
    verify(config, environ, findings)
    if examine is not None:
        examine(config, environ, findings)
    findings.raise_errors()
    return dataclasses.replace(config, warnings=findings.warnings)


def _with_env(config: Config, env: Mapping[str, str]) -> Config:
    watchers = tuple(dataclasses.replace(each, env={**each.env, **env}) for each in config.watchers)
    return dataclasses.replace(config, watchers=watchers)


def _read(path: Path, shown: str, findings: Findings) -> list[Section]:
    try:
        text = read_text(path)
    except OSError as error:
        findings.error(Origin(shown), f"cannot be read: {error.strerror}")
        return []
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        findings.error(Origin(shown, line), "is not UTF-8 text")
        return []
    return (read_toml if _is_toml(path, text) else read_ini)(text, shown, findings)


def _is_toml(path: Path, text: str) -> bool:
    if path.suffix in (".toml", ".ini", ".cfg", ".conf"):
        return path.suffix == ".toml"
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False


def _included(
    main: Sequence[Section], folder: Path, *, environ: Mapping[str, str], findings: Findings
) -> list[list[Section]]:
    files: list[Path] = []
    for section in main:
        if section.kind == "circus":
            files += _named_files(section, folder, environ=environ, findings=findings)
    return [_without_includes(_read(path, str(path), findings), findings) for path in dict.fromkeys(files)]


def _named_files(section: Section, folder: Path, *, environ: Mapping[str, str], findings: Findings) -> list[Path]:
    files: list[Path] = []
    for key, value in expanded(section.values, environ).items():
        if key not in ("include", "include_dir"):
            continue
        try:
            names = paths(value.text)
        except ValueError:
            # noted where the option is read
            continue
        for name in names:
            patterns = [name] if key == "include" else [f"{name}/*.ini", f"{name}/*.toml"]
            found = sorted(each for pattern in patterns for each in glob.glob(str(folder / pattern)))
            if not found:
                findings.warning(value.origin, f"no file matches {name!r}", label=section.label, key=key)
            files += map(Path, found)
    return files


def _without_includes(sections: Sequence[Section], findings: Findings) -> list[Section]:
    """Drop `include` from included files, and report it."""
    kept: list[Section] = []
    for section in sections:
        values = dict(section.values)
        for key in ("include", "include_dir"):
            value = values.pop(key, None) if section.kind == "circus" else None
            if value is not None:
                message = "counts in the main file only, ignored"
                findings.warning(value.origin, message, label=section.label, key=key)
        kept.append(dataclasses.replace(section, values=values))
    return kept
