"""Turns sections into a Config: the one path from any file and from the command line.

Rules: pure; the environment is an argument. All mistakes of all sections are found before any is raised. Placeholders
for the environment are replaced here, those that depend on the process when it is spawned.
"""

from __future__ import annotations

import dataclasses
import os
import re
import resource
from collections.abc import Mapping, Sequence
from socket import AddressFamily
from typing import Any

from forkserve.config import elsewhere, later
from forkserve.config.consistency import check_consistency
from forkserve.config.document import Findings, Kind, Section, Value, merge
from forkserve.config.environment import environment_of, global_environment
from forkserve.config.foreign import FOREIGN
from forkserve.config.hooks import HOOKS, parse_hook
from forkserve.config.model import Config, MasterOptions, SocketOptions, StreamClass, StreamOptions, WatcherOptions
from forkserve.config.options import Origin, options_of
from forkserve.config.placeholders import env_values, expand, unset_text
from forkserve.config.plugins import watcher_of
from forkserve.config.reading import read_options, refuse_unknown
from forkserve.config.values import boolean, integer
from forkserve.suggest import nearest

__all__ = ["build", "expanded", "is_of_plugin", "read_socket", "read_watcher"]

_TABLES = ("stdout_stream", "stderr_stream", "hooks")
_CLASS_NAMES = frozenset(each.value for each in StreamClass)
_NAMED = ("watcher", "socket", "plugin")
_KINDS = ("circus", "env", *_NAMED)
# a socket's name stands in placeholders and in LISTEN_FDNAMES; a watcher's in paths of the control interface
_NAMES = {"socket": re.compile(r"[\w.-]+"), "watcher": re.compile(r"[^\s/]([^/\x00-\x1f]*[^\s/])?")}


def build(sections: Sequence[Section], environ: Mapping[str, str], findings: Findings) -> Config:
    """Return the configuration, usable only if `findings` has no error afterwards.

    Invalid values are replaced by their defaults, so that further checks can find further mistakes.
    """
    return _Builder(merge(sections, findings), environ, findings).config()


def read_watcher(section: Section, known: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    """Return the fields of a watcher from one section alone; `known` are the variables for its values."""
    return _Builder([section], known, findings).fields(section, known)


def read_socket(section: Section, known: Mapping[str, str], findings: Findings) -> SocketOptions | None:
    """Return the socket of one section alone."""
    return _Builder([section], known, findings).socket(section)


def expanded(values: Mapping[str, Value], known: Mapping[str, str]) -> dict[str, Value]:
    """Replace the placeholders for the environment in all values."""
    names = env_values(known)
    return {key: _expanded(value, names) for key, value in values.items()}


def _expanded(value: Value, names: Mapping[str, str]) -> Value:
    text = expand(value.text, names)
    if text == value.text and not unset_text(text):
        return value
    # What comes from a variable is a text that has no type yet.
    return dataclasses.replace(value, text=text, kind=Kind.LIST if value.kind is Kind.LIST else Kind.TEXT)


class _Builder:
    def __init__(self, sections: Sequence[Section], environ: Mapping[str, str], findings: Findings) -> None:
        self.environ = environ
        self.findings = findings
        self.sections = sections
        self.globals = {**environ, **global_environment(sections, environ)}
        self.origins: dict[tuple[str, str], Origin] = {
            (section.title, key): value.origin for section in sections for key, value in section.values.items()
        }

    def config(self) -> Config:
        """Build every section, then check them together."""
        self._judge_sections()
        master = self._master()
        self.sections = [self._served(each, master) for each in self.sections]
        config = Config(
            master=master,
            sockets=tuple(filter(None, map(self.socket, self._of_kind("socket")))),
            watchers=tuple(filter(None, map(self._watcher, self._of_kind("watcher")))),
            origins=self.origins,
            labels={each.title: each.label for each in self.sections},
        )
        check_consistency(config, {each.title: each for each in self.sections}, self.findings)
        return config

    def _served(self, section: Section, master: MasterOptions) -> Section:
        if section.kind != "plugin":
            return section
        return watcher_of(section, expanded(section.values, self.globals), master, self.findings)

    def _of_kind(self, kind: str) -> list[Section]:
        return [each for each in self.sections if each.kind == kind]

    def _judge_sections(self) -> None:
        for section in self.sections:
            if section.kind in FOREIGN:
                foreign = FOREIGN[section.kind]
                is_error = foreign.runs and not self._of_kind("watcher")
                note = self.findings.error if is_error else self.findings.warning
                note(section.origin, foreign.advice, label=section.label)
            elif not _is_known(section):
                advice = nearest(section.kind, _KINDS)
                self.findings.warning(section.origin, f"unknown section, ignored{advice}", label=section.label)
            elif section.kind in _NAMES and not _NAMES[section.kind].fullmatch(section.name):
                letters = "without a slash" if section.kind == "watcher" else "of letters, digits, `_`, `.` and `-`"
                message = f"expected [{section.kind}:NAME] with a name {letters}"
                self.findings.error(section.origin, message, label=section.label)
            for key, value in section.values.items():
                if "\0" in key + value.text:
                    message = "holds a NUL character, which no command, path or variable can; remove it"
                    self.findings.error(value.origin, message, label=section.label, key=key)
                elif section.kind == "env" and (not key or "=" in key):
                    message = "expected the name of a variable, which is not empty and holds no `=`"
                    self.findings.error(value.origin, message, label=section.label, key=key)

    def _master(self) -> MasterOptions:
        for section in (each for each in self.sections if each.title == "circus"):
            values = expanded(section.values, self.globals)
            given, rest = read_options(MasterOptions, values, self.findings, label=section.label)
            rest = self._without_later(rest, later.MASTER, section)
            refuse_unknown(MasterOptions, rest, section, findings=self.findings)
            if given.get("debug") and "loglevel" not in given:
                given["loglevel"] = "debug"
            return MasterOptions(**given)
        return MasterOptions()

    def _without_later(
        self, rest: Mapping[str, Value], reasons: Mapping[str, str], section: Section, *, prefix: str = ""
    ) -> dict[str, Value]:
        for key, value in rest.items():
            if key in reasons and not later.asks_for_nothing(value.text):
                self.findings.warning(value.origin, reasons[key], label=section.label, key=prefix + key)
        return {key: value for key, value in rest.items() if key not in reasons}

    def socket(self, section: Section) -> SocketOptions | None:
        """Return the socket of a section; None for one without a name."""
        values = expanded(section.values, self.globals)
        given, rest = read_options(SocketOptions, values, self.findings, label=section.label)
        refuse_unknown(SocketOptions, rest, section, findings=self.findings, known=elsewhere.SOCKET)
        if given.get("path"):
            given["family"] = AddressFamily.AF_UNIX
        elif ":" in given.get("host", "") and "family" not in given:
            given["family"] = AddressFamily.AF_INET6
        return SocketOptions(name=section.name, **given) if section.name else None

    def _watcher(self, section: Section) -> WatcherOptions | None:
        env = environment_of(section.name, self.sections, self.environ)
        section = _with_number(section)
        given = self.fields(section, {**self.environ, **env})
        if "cmd" not in given:
            if "cmd" not in section.values:
                message = "cmd is missing: give the command to run"
                self.findings.error(section.origin, message, label=section.label)
            # its other mistakes are found all the same
            given["cmd"] = "false"
        return WatcherOptions(name=section.name, env=env, **given) if section.name else None

    def fields(self, section: Section, known: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields of a watcher from its section; `known` are the variables for its values."""
        values = expanded(section.values, known)
        given, rest = read_options(WatcherOptions, values, self.findings, label=section.label)
        given["rlimits"] = self._rlimits(_family(rest, "rlimit_"), section)
        for stream in ("stdout_stream", "stderr_stream"):
            given[stream] = _found_in(self._stream(stream, _family(rest, f"{stream}."), section), known)
        given["hooks"] = self._hooks(_family(rest, "hooks."), section)
        given["extra"] = self._extra(rest, section)
        return given

    def _rlimits(self, values: Mapping[str, Value], section: Section) -> dict[str, int]:
        known = [name for name in dir(resource) if name.startswith("RLIMIT_")]
        limits: dict[str, int] = {}
        for key, value in values.items():
            name = f"RLIMIT_{key.upper()}"
            try:
                if name not in known:
                    raise ValueError(f"unknown limit{nearest(name, known)}")
                blank = value.text.strip().lower() in ("", "infinity", "unlimited")
                limits[name] = resource.RLIM_INFINITY if blank else _limit(value.text)
            except ValueError as error:
                message = unset_text(value.text) or str(error)
                self.findings.error(value.origin, message, label=section.label, key=f"rlimit_{key}")
        return limits

    def _stream(self, name: str, values: dict[str, Value], section: Section) -> StreamOptions | None:
        if not values:
            return None
        word = values.get("class")
        if word:
            short = word.text.strip().removeprefix("circus.stream.")
            short = "SyslogStream" if short.lower() == "syslog" else short
            if short == "QueueStream":
                message = "keeps output in memory for Circus's Python interface, ignored: see forkservectl logs"
                self.findings.warning(word.origin, message, label=section.label, key=f"{name}.class")
                return None
            if "." in short and short not in _CLASS_NAMES:
                arguments = {key: value.text for key, value in values.items() if key != "class"}
                return StreamOptions(kind=StreamClass.FOREIGN, target=short, arguments=arguments)
            values = {**values, "class": dataclasses.replace(word, text=short)}
        prefix = f"{name}."
        given, rest = read_options(StreamOptions, values, self.findings, label=section.label, prefix=prefix)
        rest = self._without_later(rest, later.STREAM, section, prefix=prefix)
        refuse_unknown(StreamOptions, rest, section, findings=self.findings, prefix=prefix)
        if "kind" not in given and ("class" in values or "kind" in values):
            return None
        if "filename" not in values:
            given.setdefault("kind", StreamClass.STDOUT)
        return StreamOptions(**given)

    def _hooks(self, values: Mapping[str, Value], section: Section) -> dict[str, str]:
        written = {}
        for name, value in values.items():
            key, hook, flag = f"hooks.{name}", *name.partition(".")[::2]
            if hook not in HOOKS or flag not in ("", "ignore_failure"):
                advice = nearest(hook, HOOKS)
                self.findings.warning(value.origin, f"unknown hook, ignored{advice}", label=section.label, key=key)
                continue
            try:
                if not flag:
                    parse_hook(value.text)
                    written[hook] = value.text
                elif hook in values and boolean(value.text):
                    written[hook] = f"{parse_hook(values[hook].text).target},true"
            except ValueError as error:
                message = unset_text(value.text) or str(error)
                self.findings.error(value.origin, message, label=section.label, key=key)
        return written

    def _extra(self, rest: Mapping[str, Value], section: Section) -> dict[str, str]:
        families = later.ANY_WATCHER_KEY
        free = {key: value for key, value in rest.items() if not key.startswith(families)}
        free = self._without_later(free, later.WATCHER, section)
        names = [each.name for each in options_of(WatcherOptions)]
        unknown = {key: value for key, value in free.items() if not is_of_plugin(key)}
        for key, value in unknown.items():
            # a free key is legal in Circus: plugins read them; one that looks like an option is more likely an error
            known, cutoff = (elsewhere.WATCHER, 0.6) if section.strict else (elsewhere.FREE_KEYS, 0.75)
            advice = elsewhere.advice_on(key, [*names, *_TABLES], known, cutoff=cutoff)
            if section.strict:
                self.findings.error(value.origin, f"unknown option{advice}", label=section.label, key=key)
            elif advice:
                message = f"not an option, kept as a free key{advice}"
                self.findings.warning(value.origin, message, label=section.label, key=key)
        return {key: value.text for key, value in free.items()}


def _found_in(stream: StreamOptions | None, known: Mapping[str, str]) -> StreamOptions | None:
    """Return a stream that knows where its class is imported from."""
    if stream is None or stream.kind is not StreamClass.FOREIGN:
        return stream
    path = tuple(folder for folder in known.get("PYTHONPATH", "").split(os.pathsep) if folder)
    return dataclasses.replace(stream, path=path)


def _with_number(section: Section) -> Section:
    """Return a section with the actual number in place of `numprocesses = auto`."""
    value = section.values.get("numprocesses")
    if value is None or value.text.strip().lower() != "auto":
        return section
    # imported late: few ask for it
    from forkserve.config.cpus import automatic_processes

    number = dataclasses.replace(value, text=str(automatic_processes()), kind=Kind.TEXT)
    return dataclasses.replace(section, values={**section.values, "numprocesses": number})


def _limit(text: str) -> int:
    if integer(text) < resource.RLIM_INFINITY:
        raise ValueError(f"expected a number, or nothing for no limit, got {text!r}")
    return integer(text)


def _is_known(section: Section) -> bool:
    return section.title == "circus" or section.kind in ("env", *_NAMED)


def is_of_plugin(key: str) -> bool:
    """Tell whether a dotted key, such as `flapping.window`, is not a misspelling of our own families."""
    head, dot, _ = key.partition(".")
    return bool(dot) and not nearest(head, _TABLES, cutoff=0.75)


def _family(values: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
