"""Changes of the current configuration as data: other options, a watcher or a socket added or removed.

An edit is checked like the file, by the same readers: all of it is applied, or none. It lasts until the file is read
again, which does not contain it.

Rules: pure except for `EditedSource.read`, which also asks the system whether names exist.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from forkserve.config.build import read_socket, read_watcher
from forkserve.config.consistency import check_consistency
from forkserve.config.document import Findings, Section, Value
from forkserve.config.model import Config, SocketOptions, StreamClass, StreamOptions, WatcherOptions
from forkserve.config.options import Origin, options_of
from forkserve.config.system import verify
from forkserve.errors import ControlError

__all__ = [
    "AddSocket",
    "AddWatcher",
    "ConfigEdit",
    "EditedSource",
    "RemoveSocket",
    "RemoveWatcher",
    "SetSocket",
    "SetWatcher",
    "as_text",
    "flattened",
]

Options = Mapping[str, Any]
"""Values by the name of the option, as text or as JSON has them; a table such as `env` may be an object."""

_CONTROL = Origin("control")
_STREAMS = ("stdout_stream", "stderr_stream")
_TABLES = (*_STREAMS, "hooks", "env")


class ConfigEdit(Protocol):
    """One change."""

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        """Return the configuration after it; reports mistakes, or raises ControlError."""

    @property
    def subject(self) -> tuple[str, str]:
        """What it is about: `watcher` or `socket`, and the name."""


@dataclass(frozen=True, slots=True)
class _WatcherEdit:
    name: str

    @property
    def subject(self) -> tuple[str, str]:
        """The watcher."""
        return "watcher", self.name


@dataclass(frozen=True, slots=True)
class _SocketEdit:
    name: str

    @property
    def subject(self) -> tuple[str, str]:
        """The socket."""
        return "socket", self.name


@dataclass(frozen=True, slots=True)
class SetWatcher(_WatcherEdit):
    """Other values for options of one watcher."""

    options: Options

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        before = _find(config.watchers, self.name, "watcher")
        given = flattened(self.options)
        for stream in _STREAMS:
            if any(key.startswith(f"{stream}.") for key in given):
                given = {**_texts_of(getattr(before, stream), f"{stream}."), **given}
        env = {key.removeprefix("env."): as_text(given.pop(key)) for key in list(given) if key.startswith("env.")}
        whole_env = "env" in self.options
        known = env if whole_env else {**before.env, **env}
        fields = read_watcher(_section("watcher", before.name, given), {**environ, **known}, findings)
        for table, prefix in (("rlimits", "rlimit_"), ("hooks", "hooks."), ("extra", "")):
            if any(key.startswith(prefix) for key in given):
                fields[table] = {**getattr(before, table), **fields[table]}
            else:
                del fields[table]
        for stream in _STREAMS:
            if not any(key.startswith(f"{stream}.") for key in given):
                del fields[stream]
        after = dataclasses.replace(before, env=known, **fields)
        return dataclasses.replace(config, watchers=_replaced(config.watchers, before, after))


@dataclass(frozen=True, slots=True)
class AddWatcher(_WatcherEdit):
    """Add a watcher."""

    options: Options

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        _refuse_known(config.watchers, self.name, "")
        given = flattened(self.options)
        env = {key.removeprefix("env."): as_text(given.pop(key)) for key in list(given) if key.startswith("env.")}
        section = _section("watcher", self.name, given)
        fields = read_watcher(section, {**environ, **env}, findings)
        if "cmd" not in fields:
            if "cmd" not in given:
                findings.error(_CONTROL, "cmd is missing: give the command to run", label=section.label)
            return config
        watcher = WatcherOptions(name=self.name, env=env, **fields)
        return dataclasses.replace(config, watchers=(*config.watchers, watcher))


@dataclass(frozen=True, slots=True)
class RemoveWatcher(_WatcherEdit):
    """Remove a watcher."""

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        return dataclasses.replace(config, watchers=_without(config.watchers, self.name, "watcher"))


@dataclass(frozen=True, slots=True)
class AddSocket(_SocketEdit):
    """Add a socket."""

    options: Options

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        _refuse_known(config.sockets, self.name, "socket ")
        made = read_socket(_section("socket", self.name, flattened(self.options)), environ, findings)
        return config if made is None else dataclasses.replace(config, sockets=(*config.sockets, made))


@dataclass(frozen=True, slots=True)
class SetSocket(_SocketEdit):
    """Other values for options of one socket; a new address gets a new queue."""

    options: Options

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        before = _find(config.sockets, self.name, "socket")
        given = {**_texts_of(before, ""), **flattened(self.options)}
        made = read_socket(_section("socket", before.name, given), environ, findings)
        return dataclasses.replace(config, sockets=_replaced(config.sockets, before, made or before))


@dataclass(frozen=True, slots=True)
class RemoveSocket(_SocketEdit):
    """Remove a socket."""

    def apply(self, config: Config, environ: Mapping[str, str], findings: Findings) -> Config:
        return dataclasses.replace(config, sockets=_without(config.sockets, self.name, "socket"))


@dataclass(frozen=True, slots=True)
class EditedSource:
    """The current configuration with an edit, as a source that a reload can read."""

    base: Config
    edit: ConfigEdit

    @property
    def description(self) -> str:
        """What the log calls it."""
        return "control"

    @property
    def path(self) -> str | None:
        """No file has it."""
        return None

    def read(self) -> Config:
        """Apply the edit and check the result; raises ConfigErrors or ControlError."""
        findings = Findings()
        config = self.edit.apply(self.base, os.environ, findings)
        findings.raise_errors()
        sections = {
            title: Section(title, {}, _CONTROL, title)
            for kind, named in (("socket", config.sockets), ("watcher", config.watchers))
            for title in (f"{kind}:{each.name}" for each in named)
        }
        check_consistency(config, sections, findings)
        verify(_only(config, self.edit.subject), os.environ, findings)
        findings.raise_errors()
        return dataclasses.replace(config, warnings=findings.warnings)


def flattened(options: Options) -> dict[str, Any]:
    """Return options with nested tables as keys with a dot: `{"env": {"A": "1"}}` as `env.A`.

    A text for `env` or `hooks` is a list such as `A=1,B=2`.
    """
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if key in _TABLES and isinstance(value, str):
            value = dict(each.partition("=")[::2] for each in value.split(",") if each)
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def as_text(value: Any) -> str:
    """Return a JSON value as a file would have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def _section(kind: str, name: str, given: Options) -> Section:
    values = {key: Value(as_text(value), _CONTROL) for key, value in given.items()}
    return Section(f"{kind}:{name}", values, _CONTROL, f"{kind}:{name}", strict=True)


def _texts_of(options: SocketOptions | StreamOptions | None, prefix: str) -> dict[str, str]:
    """Return what differs from the defaults, as texts that parse to the same values."""
    if options is None:
        return {}
    if isinstance(options, StreamOptions) and options.kind is StreamClass.FOREIGN:
        return {f"{prefix}{key}": text for key, text in {"class": options.target, **options.arguments}.items()}
    found = {each.name: getattr(options, each.name) for each in options_of(type(options))}
    defaults = {each.name: each.default for each in options_of(type(options))}
    given = {name: value for name, value in found.items() if value != defaults[name]}
    octal = ("umask", "mode")
    return {
        f"{prefix}{'class' if name == 'kind' else name}": f"{value:o}" if name in octal else _name_of(value)
        for name, value in given.items()
    }


def _name_of(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value) if isinstance(value.value, str) else value.name
    return as_text(value)


def _named(among: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    return tuple(each for each in among if each.name.lower() == name.lower())


def _refuse_known(among: tuple[Any, ...], name: str, what: str) -> None:
    if _named(among, name):
        raise ControlError(f"{what}{name!r} already exists")


def _find(among: tuple[Any, ...], name: str, kind: str) -> Any:
    for each in _named(among, name):
        return each
    raise ControlError(f"no {kind} {name!r}")


def _without(among: tuple[Any, ...], name: str, kind: str) -> tuple[Any, ...]:
    gone = _find(among, name, kind)
    return tuple(each for each in among if each is not gone)


def _replaced(among: tuple[Any, ...], before: object, after: object) -> tuple[Any, ...]:
    return tuple(after if each is before else each for each in among)


def _only(config: Config, subject: tuple[str, str]) -> Config:
    kind, name = subject
    return dataclasses.replace(
        config,
        sockets=_named(config.sockets, name) if kind == "socket" else (),
        watchers=_named(config.watchers, name) if kind == "watcher" else (),
    )
